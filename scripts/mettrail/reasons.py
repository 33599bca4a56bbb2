"""Every reason for which a session, a file or a row is not used, is used with a warning, or stops a run: each once.

A reason is one word in the tables. Its meaning and what to do about it stand here and nowhere else: the columns of the
tables (`schema.columns`) and the documentation take them from here.
"""

from __future__ import annotations

import re
from enum import Flag, StrEnum, auto
from typing import Self


class Kind(Flag):
    """What a reason concerns, and so where it is read; some concern several."""

    # A session that cannot be evaluated: `reason` of cohort.tsv, `ne_reason` of the final tables.
    NOT_EVALUABLE = auto()
    # An additional sequence that its session is evaluated without (T2w_not_3d), or with and requires review
    # (T2w_misaligned): `flags`.
    SEQUENCE = auto()
    # A session that is evaluated and requires review: `flags`.
    WARNING = auto()
    # A file or a row that was given and is not used: not_used.tsv, and the list of problems.
    NOT_USED = auto()
    # A registration that is not sound: `reason` in its JSON sidecar.
    REGISTRATION = auto()
    # A run that does not start, or a step of it that stops with a message.
    REFUSED = auto()
    # A step of the pipeline that failed.
    FAILED = auto()


# Short, for the table below.
_SESSION, _SCAN = Kind.NOT_EVALUABLE, Kind.NOT_EVALUABLE | Kind.SEQUENCE
_WARNING, _UNUSED, _REFUSED = Kind.WARNING, Kind.NOT_USED, Kind.REFUSED
_FAILED, _FAILED_SESSION = Kind.FAILED, Kind.FAILED | Kind.NOT_EVALUABLE
_RECONVERT = "Convert the scan from DICOM again."
_EXPORT = "Export the scan again."
_CORRECT_TABLE = "Correct the table."
_READ_LOG = "Read the log that the message names. The same command tries again."
_GET_MODEL = "Get the model again."
_MATCH_AGAIN = "Run the matching of this patient again."


class Reason(StrEnum):
    """A reason: its word, what it concerns, what it means, and what to do.

    Parameters
    ----------
    kinds : Kind
    text : str
        What it means, in a sentence.
    advice : str
        What to do, in a sentence or two.
    """

    kinds: Kind
    text: str
    advice: str

    def __new__(cls, word: str, kinds: Kind, text: str, advice: str) -> Self:
        """Make a member of the table below."""
        self = str.__new__(cls, word)
        self._value_ = word
        self.kinds, self.text, self.advice = kinds, text, advice
        return self

    # fmt: off
    # ----------------------------------------------------------------------------------------------- the reference scan
    NO_CONTRAST = ("no_contrast", _SESSION,
        "The session has no scan with contrast agent, and RANO-BM needs one.",
        "Add the scan, or set `reference` to a sequence that the dataset has.")
    NO_REFERENCE = ("no_reference", _SESSION,
        "The session has no scan of the sequence that lesions are measured on.",
        "Add the scan, or set `reference` to a sequence that the dataset has.")
    AMBIGUOUS_SCAN = ("ambiguous_scan", _SESSION,
        "Several scans of the session could be the reference.",
        "Name the right one in `index.edits` (column `reference`), or move the others away.")
    AMBIGUOUS = ("ambiguous", Kind.SEQUENCE,
        "Several scans of the session are of this sequence.",
        "Keep one of them in the session's folder.")
    IMAGE_QUALITY = ("image_quality", _SESSION,
        "The image quality was recorded as insufficient.",
        "Correct `image_quality` in sessions.tsv if that is wrong.")
    EXCLUDED_BY_READER = ("excluded_by_reader", _SESSION,
        "A reader excluded the session.",
        "Remove its line from `index.edits` if it is to be evaluated.")

    # ------------------------------------------------------------------------------------------------ what a scan holds
    UNREADABLE = ("unreadable", _SCAN | _UNUSED | _REFUSED,
        "The file or folder cannot be read.",
        "Check that it was copied whole and that you have permission to read it.")
    NOT_3D = ("not_3d", _SCAN, "The scan is not one three-dimensional volume.",
        "Split it and keep the volume that is meant.")
    TOO_FEW_SLICES = ("too_few_slices", _SCAN,
        "The scan has too few slices to be a volume.",
        "Convert all slices of the series into one file.")
    NOT_FINITE = ("not_finite", _SCAN,
        "The scan holds values that are not finite numbers.",
        "Export the scan again; where such values are background, write 0.")
    EMPTY_SCAN = ("empty_scan", _SCAN | _REFUSED,
        "The scan shows nothing above the background.", _EXPORT)
    NEGATIVE_VALUES = ("negative_values", _SCAN,
        "Much of the scan lies below 0, so its values are not magnitudes.",
        "Give the scan as the scanner made it, without normalisation or offset.")
    BAD_DATATYPE = ("bad_datatype", _SCAN,
        "The voxels are not one real number each.",
        "Export the magnitude image from DICOM again.")
    NO_ORIENTATION = ("no_orientation", _SCAN,
        "The header does not say which side of the patient is left.", _RECONVERT)
    AMBIGUOUS_AFFINE = ("ambiguous_affine", _SCAN,
        "The header gives two positions in space that disagree.",
        "Find out which is right and set both qform and sform to it.")
    BAD_AFFINE = ("bad_affine", _SCAN, "The affine of the header is singular.", _RECONVERT)
    BAD_SPACING = ("bad_spacing", _SCAN, "The voxel size is not plausible for a head scan.", _RECONVERT)
    SHEARED = ("sheared", _SCAN,
        "The axes of the voxel grid are not perpendicular.",
        "Convert the scan again, or resample it onto a rectangular grid.")

    # ------------------------------------------------------------------------------------- segmentations that are given
    BAD_LABELS = ("bad_labels", _SESSION | _REFUSED,
        "The segmentation holds labels that are not those of `labels.scheme`.",
        "Correct the labels, or say in `labels.scheme` what they mean.")
    GRID_MISMATCH = ("grid_mismatch", _SESSION | _REFUSED,
        "Two images that have to share a voxel grid do not.",
        "Resample the one onto the other, labels with nearest neighbour.")
    AMBIGUOUS_LABELS = ("ambiguous_labels", _SESSION,
        "Several segmentations were provided for the session.",
        "Keep the one that is meant.")
    NO_LABELS = ("no_labels", _SESSION,
        "The session is listed in `labels.sessions` and has no segmentation.",
        "Add the segmentation, or take the session off the list.")
    MASK_NOT_RECOGNISED = ("mask_not_recognised", _UNUSED,
        "The file is in the folder of segmentations, and its name does not say whose it is.",
        "Rename it to `sub-X/ses-Y/anat/sub-X_ses-Y_dseg.nii.gz`.")

    # --------------------------------------------------------------------------------------- names of files and folders
    BAD_LABEL = ("bad_label", _SESSION | _UNUSED,
        "The label of a patient or session holds more than letters and digits.",
        "Rename the folder and the files in it.")
    NO_ROLE = ("no_role", _UNUSED,
        "The scan is of a sequence that the settings do not ask for.",
        "Add it to `sequences` if it is to be used.")
    NOT_A_BIDS_NAME = ("not_a_bids_name", _UNUSED,
        "The name of the file does not follow BIDS.",
        "Rename it to `sub-X_ses-Y_SUFFIX.nii.gz`.")
    NAME_DISAGREES = ("name_disagrees", _UNUSED,
        "The name of the file and its folder are of different patients or sessions.",
        "Rename or move it.")
    WRONG_FOLDER = ("wrong_folder", _UNUSED,
        "The scan is not in an `anat` folder of a patient or session.",
        "Move it there if it is to be used.")
    HIDDEN_FILE = ("hidden_file", _UNUSED, "The file is hidden, as macOS leaves them on disks.", "Delete it.")
    BIDSIGNORED = ("bidsignored", _UNUSED,
        "The file is listed in `.bidsignore`.",
        "Take it off that list if it is to be used.")
    DANGLING_LINK = ("dangling_link", _UNUSED,
        "The file or folder is a link to something that is not there.",
        "Mount or fetch what it points to (for instance with `datalad get`).")
    NOBODY = ("nobody", _UNUSED,
        "The row or file is of a patient or session that the dataset does not have.",
        "Correct its name, or remove it.")
    NOT_IN_DATASET = ("not_in_dataset", _UNUSED,
        "The results are of a patient who is no longer in the dataset.",
        "Delete them, or bring the scans back.")

    # -------------------------------------------------------------------------------------------- tables that are given
    BAD_TABLE = ("bad_table", _SESSION | _UNUSED | _REFUSED, "The table is malformed.", _CORRECT_TABLE)
    DUPLICATE_ROW = ("duplicate_row", _SESSION | _UNUSED | _REFUSED,
        "Two rows that are about the same differ.", "Keep the row that is meant.")
    BAD_DATE = ("bad_date", _SESSION,
        "The date of the session cannot be read.",
        "Correct it; a shifted date is fine if order and intervals are true.")
    UNKNOWN_COLUMN = ("unknown_column", _UNUSED | _REFUSED,
        "The name of a column is nearly that of one that would be read.",
        "Correct its name, or choose one that is less similar.")
    UNKNOWN_WORD = ("unknown_word", _REFUSED,
        "A cell holds a word whose effect on the response is not known.",
        "Write one of the words that the message lists, or `n/a`.")
    UNKNOWN_PARTICIPANT = ("unknown_participant", _REFUSED,
        "The name in a table is nearly that of a patient of the dataset.",
        "Write it as the patient's folder has it.")
    WRONG_NAME = ("wrong_name", _REFUSED, "The table of participants has another name.",
        "Save it as `participants.tsv`.")
    BAD_OVERRIDES = ("bad_overrides", _UNUSED | _REFUSED,
        "A decision in a reader's table cannot be applied.", "Correct the reader's table.")
    BAD_TREATMENT = ("bad_treatment", _UNUSED,
        "A row of the table of treatments cannot be used, wholly or in part.",
        "Correct the row as the message says.")
    TABLE_NOT_READ = ("table_not_read", _WARNING,
        "A table beside the scans has a name that is not read.",
        "Save it under the name that the message gives, as text separated by tabs.")
    ROW_NOT_USED = ("row_not_used", _WARNING, "A row of sessions.tsv names no session.", "Add its session_id.")
    ROW_TWICE = ("row_twice", _WARNING, "Two rows of sessions.tsv say the same of the session.", "Remove one of them.")
    SESSION_NAME = ("session_name", _WARNING,
        "A table spells the name of the session otherwise than its folder.",
        "Write it as the folder has it.")
    BAD_CELL = ("bad_cell", _WARNING, "A cell of a table cannot be read and is not used.", "Correct the cell.")
    SCAN_NOT_LISTED = ("scan_not_listed", _WARNING,
        "The table scans.tsv has no row for the reference scan, so its date is not known.",
        "Add the row.")
    SCAN_LISTED_TWICE = ("scan_listed_twice", _WARNING,
        "The table scans.tsv has several dates for the reference scan, so none is used.",
        "Keep the row that is meant.")
    DATES_DISAGREE = ("dates_disagree", _WARNING,
        "The tables scans.tsv and sessions.tsv have different dates; that of sessions.tsv is used.",
        "Correct the one that is wrong.")
    NO_DATES = ("no_dates", _WARNING,
        "The order of sessions is known, the days are not, so no response can be confirmed.",
        "Give every session an acq_time, or days_from_baseline.")
    SAME_SCAN = ("same_scan", _WARNING | Kind.SEQUENCE,
        "The scan has the same voxels as another one of the dataset: one of them is a copy under a wrong name.",
        "Replace the copy by the right scan, or remove it.")
    SAME_DATE = ("same_date", _WARNING,
        "Another session has the same date, so the order of the two is uncertain.",
        "Correct acq_time, or exclude one of them.")
    DATE_GAP = ("date_gap", _WARNING,
        "Decades lie between dates of one patient, so days of treatment are not used.",
        "Shift all dates of a patient by the same number of days.")
    TREATMENT_BEFORE_SCANS = ("treatment_before_scans", _WARNING,
        "The treatment began before the first scan, which is taken for the baseline.",
        "Correct the date if that is wrong.")
    TREATMENT_DATE_UNUSED = ("treatment_date_unused", _WARNING,
        "A date of treatment is given that has no place on the time axis of the sessions.",
        "Give dates of both, or days of both.")
    TREATMENTS_MISSING = ("treatments_missing", _WARNING,
        "Lesions were treated one by one, and no table says which.",
        "Add sub-X_treatments.tsv.")
    DEATH_UNUSED = ("death_unused", _WARNING,
        "The day of death is not used, or contradicts its date.",
        "Correct it in participants.tsv.")
    LAST_CONTACT_UNUSED = ("last_contact_unused", _WARNING,
        "The day of last contact is not used, or contradicts its date.",
        "Correct it in participants.tsv.")
    LEPTOMENINGEAL_UNUSED = ("leptomeningeal_unused", _WARNING,
        "The day of leptomeningeal disease is not used, or contradicts its date.",
        "Correct it in participants.tsv.")

    # ------------------------------------------------------------------------------------ settings and where things lie
    BAD_INPUT = ("bad_input", _REFUSED,
        "A file or setting is not what it has to be.", "Do what the message says.")
    BAD_SETTING = ("bad_setting", _REFUSED, "A setting has an impossible value.", "Correct it in the configuration.")
    BAD_SETTINGS = ("bad_settings", _REFUSED,
        "A file of settings cannot be read, or holds no settings.",
        "Correct it; `mettrail init` writes one with every setting.")
    UNKNOWN_LABEL = ("unknown_label", _REFUSED,
        "A patient or session that was asked for is not in the dataset.",
        "Give labels as they stand in the names of the folders.")
    NOBODY_LEFT = ("nobody_left", _REFUSED,
        "No session is left of those that were chosen.",
        "Correct `participants`, `sessions` and `exclude` of the block `index`.")
    UNKNOWN_SETTING = ("unknown_setting", _REFUSED, "A setting does not exist.", "Correct its name.")
    WRONG_ORDER = ("wrong_order", _REFUSED, "A lower limit lies above its upper limit.", "Swap them.")
    NOT_TEXT = ("not_text", _REFUSED, "A text was read as a number or a date.", "Put it in quotes.")
    BAD_PLACE = ("bad_place", _REFUSED,
        "The results would overwrite inputs, or be read back as scans.",
        "Name another folder: `out=FOLDER`.")
    BAD_CAPTION = ("bad_caption", _REFUSED, "A caption names a setting that does not exist.", "Correct the caption.")
    NO_GPU = ("no_gpu", _REFUSED, "A GPU is asked for, and there is none.", "Set the device to `auto`.")
    NOT_INSTALLED = ("not_installed", _REFUSED,
        "A package that the chosen method needs is not installed.",
        "Install what the message names, or choose another method.")

    # ------------------------------------------------------------------------------------- models and published weights
    NO_MODEL = ("no_model", _SESSION | _REFUSED,
        "No model fits the sequences of the session, or the model's folder is incomplete.",
        "Add a sequence, or list a model that does without it under `segment: models`.")
    BAD_MODEL = ("bad_model", _REFUSED, "A model folder is damaged or contradicts itself.", _GET_MODEL)
    UNSAFE_MODEL = ("unsafe_model", _REFUSED,
        "A model would run code that is not part of mettrail.",
        "Use it only if you trust where it comes from, as the message says.")
    MISSING_CHANNEL = ("missing_channel", _REFUSED,
        "A sequence is missing that the network needs.",
        "Add the sequence, or use a model that does without it.")
    BAD_PROBABILITIES = ("bad_probabilities", _REFUSED,
        "A probability map does not have the four classes.",
        "Write background, enhancing, edema and necrosis along the fourth axis.")
    NO_WEIGHTS = ("no_weights", _REFUSED, "The weights of the chosen method are not there.",
        "Run `snakemake --cores 1 fetch` where there is a network.")
    UNKNOWN_WEIGHTS = ("unknown_weights", _REFUSED,
        "The list of published weights has no such entry.", "Correct the name, or add it to `resources/weights.yaml`.")
    NO_NETWORK = ("no_network", _REFUSED,
        "The download failed or was cut short.",
        "Run this where there is a network, or put the file in its place by hand.")
    NO_CHECKSUM = ("no_checksum", _REFUSED,
        "The publisher states no checksum that can be used.",
        "Look at the record in a browser; correct `resources/weights.yaml` if it has moved.")
    WRONG_CHECKSUM = ("wrong_checksum", _REFUSED,
        "The file is not the published one.",
        "Fetch it again; do not use it before you know why.")

    # -------------------------------------------------------------------------------------------- steps of the pipeline
    NO_BRAIN = ("no_brain", _REFUSED, "No method found a brain in the scan.",
        "Look at the scan and its voxel size, or try another method.")
    EMPTY_BRAIN = ("empty_brain", _REFUSED, "A brain mask is empty.", "Look at the scan and its brain mask.")
    NOT_EXTRACTED = ("not_extracted", _REFUSED,
        "The scan shows a whole head, and the method expects an extracted brain.",
        "Choose another method under `strip`.")
    BRAIN_MASK = ("brain_mask", _SESSION,
        "The brain mask failed the quality check.",
        "Look at its outline on the page of the patient; another method under `strip` may do better.")
    REGISTRATION_FAILED = ("registration_failed", _SESSION | Kind.REGISTRATION,
        "The brains do not overlap enough after registration.",
        "Look at the picture of the registration.")
    NOT_RIGID = ("not_rigid", _SESSION | Kind.REGISTRATION,
        "The registration to the reference session is not rigid.",
        "Look at the picture of the registration.")
    REGISTRATION_POOR = ("registration_poor", _WARNING | Kind.REGISTRATION,
        "The brains overlap less after registration than they mostly do.",
        "Look at the picture of the registration.")
    MIRRORED = ("mirrored", _SCAN | Kind.REGISTRATION,
        "The scan fits the one that it is registered to once left and right are exchanged.",
        "Convert both scans from DICOM again: in one of them left and right are exchanged. If this is said of all of a "
        "patient's later sessions, it is in the first one.")
    OTHER_HEAD = ("other_head", _SESSION | _WARNING | Kind.REGISTRATION,
        "The scan has little in common with that of the patient's reference session: it may be another person's, of "
        "another sequence, or wrongly registered.",
        "Check whose scan it is, and the picture of the registration. If this is said of all of a patient's later "
        "sessions, check the first one.")
    VOXEL_SIZE = ("voxel_size", _WARNING | Kind.REGISTRATION,
        "The head is not as large as at the patient's reference session: one of the two scans has a wrong voxel size, "
        "and with it wrong volumes (`head_volume_ratio`).",
        "Compare both with their DICOM headers: the distance between slices is not always their thickness.")
    ELSEWHERE = ("elsewhere", Kind.SEQUENCE,
        "The scan's field of view lies beside that of the reference scan, or shows little of it.",
        "Convert both scans from DICOM again, so that they keep their places.")
    OTHER_SEQUENCE = ("other_sequence", Kind.SEQUENCE,
        "The scan shows fluid, grey and white matter as another sequence does.",
        "Give it the name of the sequence that it is, or remove it.")
    SEQUENCE_FAILED = ("sequence_failed", _REFUSED | Kind.SEQUENCE,
        "The sequence does not lie on the reference scan, shows too little of the brain, or could not be prepared. If "
        "it is for edema alone, the session is evaluated without it, and edema is n/a.",
        "Look at both scans, one over the other. Named in .bidsignore, the sequence is left out.")
    MISALIGNED = ("misaligned", Kind.SEQUENCE | Kind.REGISTRATION,
        "The sequence may not lie on the reference scan.",
        "Look at both scans, one over the other.")
    PARTIAL = ("partial", Kind.SEQUENCE | Kind.REGISTRATION,
        "The sequence shows only a part of the brain: what it alone shows, edema above all, is missing elsewhere.",
        "Trust nothing about edema there, or name the scan in .bidsignore.")
    BAD_TRANSFORM = ("bad_transform", _REFUSED, "A file holds no transform of the expected kind.",
        "Check that it was copied whole.")
    NO_PRIOR = ("no_prior", _REFUSED,
        "No earlier session of the patient can serve as the prior session.",
        "See why the earlier sessions failed.")
    LESIONS_DIFFER = ("lesions_differ", _REFUSED,
        "The label map and the table hold different lesions.",
        "Run measure and match again, from the same segmentation.")
    BAD_REGISTRY = ("bad_registry", _REFUSED, "The registry of lesions is damaged.", _MATCH_AGAIN)
    OTHER_SETTINGS = ("other_settings", _REFUSED, "The registry of lesions was made with other settings.",
        "Run again with `--forcerun measure match`.")
    WRONG_PATIENT = ("wrong_patient", _REFUSED, "The registry of lesions is of another patient.",
        "Give the registry of this patient.")
    WRONG_VISIT = ("wrong_visit", _REFUSED, "The registry of lesions holds this session already.",
        "Give the registry of the prior session.")
    BAD_MATCH = ("bad_match", _REFUSED, "A lesion is merged into one that the patient does not have.", _MATCH_AGAIN)
    UNKNOWN_SESSION = ("unknown_session", _REFUSED, "A table is about a session that the patient does not have.",
        "Assess all sessions of the patient, evaluable or not.")
    UNKNOWN = ("unknown", _SESSION, "No reason was recorded.", "Read the logs of the session.")

    # -------------------------------------------------------------------------------- training, evaluation and phantoms
    BAD_CHANNELS = ("bad_channels", _REFUSED, "The channels to train on do not fit the sequences.",
        "Correct `train.sequences` and `train.optional`.")
    NO_TRAINING_DATA = ("no_training_data", _REFUSED, "No session with lesions is left to train on.",
        "Add sessions with segmentations; cohort.tsv says why others are excluded.")
    BAD_SPLIT = ("bad_split", _REFUSED, "The test set names a patient that the dataset does not have.",
        "Correct participants.tsv or `train.test_patients`.")
    PATIENT_IN_TWO_SETS = ("patient_in_two_sets", _REFUSED,
        "A patient is both in the training set and in the test or validation set.",
        "Put all sessions of a patient on one side.")
    TOO_FEW_PATIENTS = ("too_few_patients", _REFUSED, "There are fewer patients than folds.",
        "Add patients, or ask for fewer folds.")
    NO_BACKGROUNDS = ("no_backgrounds", _REFUSED, "The head scans that lesions are simulated in are not there.",
        "See `resources/training/README.md`.")
    PATIENTS_DIFFER = ("patients_differ", _REFUSED, "Two methods were scored on different patients.",
        "Score both on the same scans.")
    BAD_SPEC = ("bad_spec", _REFUSED, "The description of a phantom cannot be met.", "Correct the description.")
    BAD_SEED = ("bad_seed", _REFUSED, "The seed cannot be used for training.", "Take another seed.")

    # ------------------------------------------------------------------------------------------------ steps that failed
    KILLED = ("killed", _FAILED, "The job was stopped from outside, mostly because memory ran out.", _READ_LOG)
    ERROR = ("error", _FAILED, "The job ended with an error that was not foreseen.", _READ_LOG)
    FAILED_FETCH = ("failed_fetch", _FAILED, "Fetching the weights failed.", _READ_LOG)
    FAILED_DEBIAS = ("failed_debias", _FAILED_SESSION, "Bias correction failed.", _READ_LOG)
    FAILED_STRIP = ("failed_strip", _FAILED_SESSION, "Brain extraction failed.", _READ_LOG)
    FAILED_PREPROCESS = ("failed_preprocess", _FAILED_SESSION, "Preprocessing of the scan failed.", _READ_LOG)
    FAILED_REGISTER = ("failed_register", _FAILED_SESSION, "Registration of the prior session failed.", _READ_LOG)
    FAILED_REGISTER_REFERENCE = ("failed_register_reference", _FAILED_SESSION,
        "Registration to the reference session failed.", _READ_LOG)
    FAILED_LOCATE = ("failed_locate", _FAILED, "Registration to the atlas of regions failed.", _READ_LOG)
    FAILED_PROPAGATE = ("failed_propagate", _FAILED_SESSION,
        "Propagating the lesions of the prior session failed.", _READ_LOG)
    FAILED_SEGMENT = ("failed_segment", _FAILED_SESSION, "Segmentation by the detection model failed.", _READ_LOG)
    FAILED_SEGMENT_SENSITIVE = ("failed_segment_sensitive", _FAILED_SESSION,
        "Segmentation by the sensitive detection model failed.", _READ_LOG)
    FAILED_SEGMENT_FOLLOWUP = ("failed_segment_followup", _FAILED_SESSION,
        "Segmentation by the resegmentation model failed.", _READ_LOG)
    FAILED_SEGMENT_FINE = ("failed_segment_fine", _FAILED,
        "The second look at a fine scan failed; the session's lesions are those of the first one.", _READ_LOG)
    FAILED_SEGMENT_EDEMA = ("failed_segment_edema", _FAILED,
        "Drawing edema failed; the session's lesions are as they are without it.", _READ_LOG)
    FAILED_SEGMENT_CAVITY = ("failed_segment_cavity", _FAILED,
        "Drawing resection cavities failed; the session's lesions are as they are without them.", _READ_LOG)
    FAILED_SEGMENT_FUSE = ("failed_segment_fuse", _FAILED_SESSION, "Fusion of the segmentations failed.", _READ_LOG)
    FAILED_MEASURE = ("failed_measure", _FAILED_SESSION, "Measuring the lesions failed.", _READ_LOG)
    FAILED_MATCH = ("failed_match", _FAILED_SESSION, "Matching the lesions failed.", _READ_LOG)
    FAILED_ASSESS = ("failed_assess", _FAILED_SESSION, "Assessing the response of the patient failed.", _READ_LOG)
    FAILED_SENSITIVITY = ("failed_sensitivity", _FAILED, "The sensitivity analysis failed.", _READ_LOG)
    FAILED_REPORT_SESSION = ("failed_report_session", _FAILED, "The pictures of the session failed.", _READ_LOG)
    FAILED_REPORT_LESIONS = ("failed_report_lesions", _FAILED, "The film strips of the lesions failed.", _READ_LOG)
    FAILED_REPORT_PATIENT = ("failed_report_patient", _FAILED, "The page of the patient failed.", _READ_LOG)
    FAILED_TABLES = ("failed_tables", _FAILED, "The tables of the cohort failed.", _READ_LOG)
    FAILED_REPORT = ("failed_report", _FAILED, "The page of the cohort failed.", _READ_LOG)
    FAILED_TRAIN_DATASET = ("failed_train_dataset", _FAILED, "Preparing the training data failed.", _READ_LOG)
    FAILED_TRAIN_PLAN = ("failed_train_plan", _FAILED, "Planning the training failed.", _READ_LOG)
    FAILED_TRAIN_FOLD = ("failed_train_fold", _FAILED, "Training of a fold failed.", _READ_LOG)
    FAILED_TRAIN_MODEL = ("failed_train_model", _FAILED, "Putting the trained model together failed.", _READ_LOG)
    FAILED_RADIOMICS_SESSION = ("failed_radiomics_session", _FAILED, "Writing masks for radiomics failed.", _READ_LOG)
    FAILED_RADIOMICS = ("failed_radiomics", _FAILED, "Writing the table of masks failed.", _READ_LOG)
    FAILED_FEATURES_SESSION = ("failed_features_session", _FAILED, "Computing radiomics features failed.", _READ_LOG)
    FAILED_FEATURES = ("failed_features", _FAILED, "Writing the tables of radiomics features failed.", _READ_LOG)
    FAILED_COMPARE_CASES = ("failed_compare_cases", _FAILED, "Preparing the comparison failed.", _READ_LOG)
    FAILED_COMPARE_TRAIN = ("failed_compare_train", _FAILED, "Training of a compared method failed.", _READ_LOG)
    FAILED_COMPARE_PREDICT = ("failed_compare_predict", _FAILED, "Prediction by a compared method failed.", _READ_LOG)
    FAILED_COMPARE_EVALUATE = ("failed_compare_evaluate", _FAILED, "Scoring of the comparison failed.", _READ_LOG)
    # fmt: on

    @classmethod
    def of(cls, word: str) -> Self:
        """Return the reason that a table writes as this word."""
        return cls[word.upper()]

    @classmethod
    def failed(cls, stage: str) -> Self:
        """Return the reason of a session for which a step of the pipeline failed; it has the name of its log folder."""
        return cls.of(f"failed_{stage}")

    @property
    def stage(self) -> str | None:
        """The step that failed; None for other reasons."""
        return self.removeprefix("failed_") if self.startswith("failed_") else None

    def about(self, sequence: str) -> str:
        """Return the flag of a session of which an additional sequence is concerned: ``T2w_not_3d``."""
        return f"{sequence}_{self}"


def of_kind(kind: Kind) -> list[Reason]:
    """Return the reasons of a kind."""
    return [reason for reason in Reason if kind in reason.kinds]


def levels(kind: Kind) -> dict[str, str]:
    """Return the words of a kind and what they mean, as levels of a column: without capital and full stop."""
    return {reason.value: reason.text[0].lower() + reason.text[1:].removesuffix(".") for reason in of_kind(kind)}


def markdown_table(kind: Kind) -> str:
    """Show the reasons of a kind as Markdown: the word, what it means, what to do."""
    lines = ["| reason | what it means | what to do |", "| --- | --- | --- |"]
    lines += [f"| `{reason}` | {reason.text} | {reason.advice} |" for reason in of_kind(kind)]
    return "\n".join(lines) + "\n"


def renew_markdown(text: str) -> str:
    """Return a text with every table between ``<!-- reasons: KIND -->`` and ``<!-- end -->`` made anew.

    KIND is the name of a `Kind` in small letters, for instance ``not_evaluable``.
    """

    def renew(found: re.Match[str]) -> str:
        return f"<!-- reasons: {found['kind']} -->\n\n{markdown_table(Kind[found['kind'].upper()])}\n<!-- end -->"

    return re.sub(r"<!-- reasons: (?P<kind>\w+) -->.*?<!-- end -->", renew, text, flags=re.DOTALL)
