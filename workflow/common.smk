"""The cohort, path builders and input functions. No rules, no science."""

import collections
import contextlib
import functools
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

STARTED = time.time()
ROOT = Path(workflow.basedir)
if sys.version_info[:2] not in ((3, 11), (3, 12)):
    raise WorkflowError(
        f"mettrail needs Python 3.11 or 3.12; this is {sys.version.split()[0]} ({sys.executable})."
    )

from mettrail import cohort as cohorts
from mettrail import drawn, images, jobs, provenance, results, settings
from mettrail.errors import InputError
from mettrail.segmentation import choice, edema, fine, fusion, model_folder, thresholds
from mettrail.study import cases as study_cases
from mettrail.study import methods
from mettrail.training import dataset as datasets

# A dry run writes nothing. Jobs read what the main process has left, and write nothing but their outputs.
WRITES = workflow.is_main_process and not workflow.output_settings.dryrun
# Weights are fetched before there is a dataset.
FETCHES = workflow.is_main_process and "fetch" in sys.argv[1:]

try:
    SCHEMA = ROOT / "workflow" / "schemas" / "config.yaml"
    settings.read_numbers(config, SCHEMA)
    if FETCHES:
        config["bids"] = config["bids"] or str(ROOT)
        config["out"] = config["out"] or str(ROOT / "resources" / "weights")
    settings.check_config(config, SCHEMA)
    OUT = Path(config["out"])
    if not FETCHES:
        results.check_place(config)
    OWNER = results.lock(OUT) if WRITES and not FETCHES else None
    if FETCHES:
        FOUND = cohorts.empty(config["sequences"])
    elif workflow.is_main_process:
        FOUND = cohorts.load_cohort(
            Path(config["bids"]),
            OUT,
            keep=WRITES and not OWNER,
            **settings.index_settings(config),
        )
    else:
        FOUND = cohorts.read_cohort(OUT)
    COHORT = FOUND.sessions
    REFERENCE = config["reference"]
    SEQUENCES = [name for name in config["sequences"] if name != REFERENCE]
    COHORT, MODELS = choice.choose_models(
        COHORT,
        settings.model_folders(config, ROOT),
        fusion_rule=config["segment"]["fusion"]["rule"],
        reference=REFERENCE,
        sequences=SEQUENCES,
    )
    PARTICIPANTS = FOUND.participants
    OVERRIDES = cohorts.find_overrides(
        Path(config["overrides"] or config["bids"]), list(PARTICIPANTS)
    )
    FROZEN = cohorts.find_registries(config["frozen"], OUT)
except InputError as err:
    results.leave(config["out"])
    raise WorkflowError(f"\n{err}")

SESSIONS = {(row["sub"], row["ses"]): row for row in COHORT.to_dict("records")}
PATIENTS = list(PARTICIPANTS)
# By patient, in order of time: to search all sessions for each of them takes minutes in a large cohort.
VISITS = {}
for row in SESSIONS.values():
    VISITS.setdefault(row["sub"], []).append(row)


TRAINING = f"{OUT}/train/task-{config['train']['task']}"
COMPARE = f"{OUT}/compare"
TRAINING_DATASET = datasets.TASKS[config["train"]["task"]].dataset


wildcard_constraints:
    sub="[a-zA-Z0-9]+",
    ses="[a-zA-Z0-9]+",
    mod="|".join(SEQUENCES) or "none",
    fold="[0-9]+",
    trainer="[a-z_]+",


# ------------------------------------------------------------------------------------------------------------- paths


def ses_file(name):
    """Path of a file of one session."""
    return f"{OUT}/sub-{{sub}}/ses-{{ses}}/anat/sub-{{sub}}_ses-{{ses}}_{name}"


def reference_file(entities, extension=".nii.gz"):
    """Path of a version of the session's reference image: BIDS puts ce- before res- and desc-."""
    *agent, suffix = REFERENCE.split("_")
    return ses_file("_".join([*agent, entities, suffix]) + extension)


def sub_file(name):
    """Path of a file of one patient."""
    return f"{OUT}/sub-{{sub}}/sub-{{sub}}_{name}"


def ses_figure(name):
    """Path of a picture of one session."""
    return f"{OUT}/figures/sub-{{sub}}_ses-{{ses}}_{name}.png"


def log_file(stage, unit="sub-{sub}_ses-{ses}"):
    return f"{OUT}/logs/{stage}/{unit}.log"


def benchmark_file(stage, unit="sub-{sub}_ses-{ses}"):
    return f"{OUT}/benchmarks/{stage}/{unit}.tsv"


# The only files that a session takes from the one before: its lesions, which of them are confirmed, and the registry.
LESIONS = ses_file("desc-tissue_dseg.nii.gz")
COMPONENTS = ses_file("desc-components_dseg.nii.gz")
COMPONENTS_TABLE = ses_file("desc-components_dseg.tsv")
REGISTRY = ses_file("desc-lesions_registry.json")

# --------------------------------------------------------------------------------------------------- input functions


def raw_scan(sub, ses, column):
    """The raw scan in a column of the cohort table."""
    return str(Path(config["bids"]) / SESSIONS[sub, ses][column])


def scan(column):
    """That of one session; `mod` is the column that the wildcard names."""
    return lambda wildcards: raw_scan(
        wildcards.sub, wildcards.ses, wildcards.mod if column == "mod" else column
    )


def origin(column="reference"):
    """What an image's sidecar says of its origin, but for its sources: the raw scan in whose space it is."""
    return lambda wildcards: {"datasets": DATASETS, "space": scan(column)(wildcards)}


def if_contrast_agent(name):
    """Return a limit of `contrast_check`, or 0: without contrast agent by intention nothing is evaluable anyhow."""
    return config["contrast_check"][name] if REFERENCE.startswith("ce-") else 0


def given_labels(wildcards):
    """The manual segmentation of this session, if there are any."""
    path = SESSIONS[wildcards.sub, wildcards.ses]["labels"]
    return [] if path == "n/a" else path


def prior_of(wildcards):
    """The last usable session before this one, or None."""
    prior = SESSIONS[wildcards.sub, wildcards.ses]["prior"]
    return None if prior == "n/a" else prior


def earlier_sessions(wildcards):
    """The usable sessions before this one, as ``ses-1``, in order of time."""
    before = usable_sessions(wildcards.sub)
    before = before[: before.index(wildcards.ses)] if wildcards.ses in before else []
    return [f"ses-{ses}" for ses in before]


def of_earlier(path):
    """A file of each usable session before this one; the last that did not fail is the prior."""

    def find(wildcards):
        if not prior_of(wildcards):
            raise WorkflowError(
                f"sub-{wildcards.sub}_ses-{wildcards.ses} is the first usable session: it has no prior."
            )
        return of_earlier_if_any(path)(wildcards)

    return find


def of_earlier_if_any(path):
    """The same; nothing on a first session."""
    return lambda wildcards: [
        path.format(sub=wildcards.sub, ses=name.removeprefix("ses-"))
        for name in earlier_sessions(wildcards)
    ]


def reference_sessions(wildcards):
    """The sessions whose space may be the patient's: the first that did not fail, or what an earlier run has chosen."""
    settled = FROZEN.get(wildcards.sub)
    if settled:
        return [settled.reference]
    return [*earlier_sessions(wildcards), f"ses-{wildcards.ses}"]


def of_reference(path):
    """A file of each session whose space may be the patient's."""
    return lambda wildcards: [
        path.format(sub=wildcards.sub, ses=name.removeprefix("ses-"))
        for name in reference_sessions(wildcards)
    ]


def space_sessions(wildcards):
    """The same for the patient as a whole."""
    settled = FROZEN.get(wildcards.sub)
    sessions = session_names(wildcards)
    return [settled.reference] if settled and sessions else sessions


def of_space(path):
    """A file of each session whose space may be the patient's; nothing where no visit is usable."""
    return lambda wildcards: [
        path.format(sub=wildcards.sub, ses=name.removeprefix("ses-"))
        for name in space_sessions(wildcards)
    ]


def frozen_registries(wildcards):
    """The registries of an earlier run whose numbers are kept."""
    settled = FROZEN.get(wildcards.sub)
    return settled.registries if settled else []


def frozen_trajectories(wildcards):
    """The patient's table of an earlier run whose targets are kept."""
    settled = FROZEN.get(wildcards.sub)
    return settled.trajectories if settled else []


def overrides_of(wildcards):
    """What a reader has decided on this patient; nothing where no visit is usable."""
    return OVERRIDES.get(wildcards.sub, []) if usable_sessions(wildcards.sub) else []


def of_cohort(path, *, followups=False):
    """A file of every usable session of all patients, or of those with a prior."""
    return lambda wildcards: [
        path.format(sub=sub, ses=ses)
        for (sub, ses), row in SESSIONS.items()
        if row["usable"] == "true" and not (followups and row["prior"] == "n/a")
    ]


def sequences_of_networks(path):
    """A file of every sequence, of all patients, that networks are given beside the reference image."""
    return lambda wildcards: [
        path.format(sub=sub, ses=ses, mod=mod)
        for sub, ses in SESSIONS
        for mod in sequences_used(sub, ses)
    ]


def of_sequences(path):
    """A file of every sequence that networks are given of a session beside its reference image."""
    return lambda wildcards: [
        path.format(**wildcards, mod=mod)
        for mod in sequences_used(wildcards.sub, wildcards.ses)
    ]


def sequences_used(sub, ses):
    """The other sequences that a session's networks are given; none where its masks are provided."""
    row = SESSIONS[sub, ses]
    if row["usable"] != "true" or row["labels"] != "n/a":
        return []
    folders = [folder for folder in MODELS[sub, ses].values() if folder]
    return [
        mod
        for mod in SEQUENCES
        if any(mod in sequences_given(folder, row) for folder in folders)
    ]


def of_all(path):
    """A file of every usable session of a patient, in order of time."""
    return lambda wildcards: [
        path.format(sub=wildcards.sub, ses=ses)
        for ses in usable_sessions(wildcards.sub)
    ]


def if_usable(path):
    """A file of a patient; nothing where no visit is usable."""
    return lambda wildcards: (
        path.format(**wildcards) if usable_sessions(wildcards.sub) else []
    )


def if_made(path):
    """A file that no run makes by itself, where there is one."""
    return lambda wildcards: [path] if Path(path).exists() else []


def usable_sessions(sub):
    """The patient's sessions that can be used, in order of time."""
    return [row["ses"] for row in VISITS.get(sub, []) if row["usable"] == "true"]


def session_names(wildcards):
    """The patient's usable sessions as ``ses-1``, in order of time."""
    return [f"ses-{ses}" for ses in usable_sessions(wildcards.sub)]


def followup_names(wildcards):
    """Those that have a prior."""
    return session_names(wildcards)[1:]


def of_followups(path):
    """A file of each of them."""
    return lambda wildcards: of_all(path)(wildcards)[1:]


def scans_of_all(column):
    """That of every usable session of a patient, in order of time."""
    return lambda wildcards: [
        raw_scan(wildcards.sub, ses, column) for ses in usable_sessions(wildcards.sub)
    ]


def sequences_given(folder, row):
    """The other sequences that a model asks for and a session has."""
    asked = describe_model(folder)["channels"]
    return [mod for mod in SEQUENCES if mod in asked and row[mod] != "n/a"]


def sequences_for(task, path):
    """A file of each of them, of the session's model."""
    return lambda wildcards: [
        path.format(sub=wildcards.sub, ses=wildcards.ses, mod=mod)
        for mod in sequences_given(
            model_of(wildcards, task), SESSIONS[wildcards.sub, wildcards.ses]
        )
    ]


def prior_image_for(task, path):
    """The last visit's image, where the session's model asks for it and there is one."""

    def find(wildcards):
        asked = describe_model(model_of(wildcards, task))["channels"]
        wanted = model_folder.PRIOR_IMAGE in asked and prior_of(wildcards)
        return path.format(**wildcards) if wanted else []

    return find


def if_followup(path):
    """A file of this session that first sessions do not have."""
    return lambda wildcards: path.format(**wildcards) if prior_of(wildcards) else []


def for_fusion(name, path):
    """A file the fusion rule wants of a session; nothing where there is a manual segmentation."""

    def find(wildcards):
        wanted = fusion.needed(
            config["segment"]["fusion"]["rule"], followup=bool(prior_of(wildcards))
        )
        runs = name == "prior" or MODELS[wildcards.sub, wildcards.ses].get(name)
        needless = given_labels(wildcards) or name not in wanted or not runs
        return [] if needless else path.format(**wildcards)

    return find


@functools.cache
def is_fine(sub, ses):
    """Whether a session's scan is finer than 1 mm, and is looked at a second time."""
    folder = MODELS[sub, ses].get("detection")
    if not folder or describe_model(folder)["channels"] != [model_folder.POST_CONTRAST]:
        return False
    grid = images.read_grid(raw_scan(sub, ses, "reference"))
    below_mm = config["segment"]["full_resolution_below_mm"]
    return fine.fine_grid(grid, below_mm=below_mm) is not None


def if_fine(path):
    """A file of such a session that detection sees; nothing where there is a manual segmentation."""

    def find(wildcards):
        wanted = for_fusion("detection", path)(wildcards)
        return wanted if wanted and is_fine(wildcards.sub, wildcards.ses) else []

    return find


def weights_of_strip(wildcards):
    """HD-BET's weights where it is the method; they are fetched beforehand, never inside a run."""
    if config["strip"]["method"] != "hd-bet":
        return []
    return settings.require_weights(config["strip"]["hd_bet_weights"], ROOT)


@contextlib.contextmanager
def refusals_end_the_run():
    """What is wrong with what was asked for ends the run as it is read."""
    try:
        yield
    except InputError as err:
        raise WorkflowError(f"\n{err}")


def session_to_learn_from(row, sequences, *, with_prior=True):
    """A session's images and masks; the masks and the image of the prior session, registered, where it has masks."""
    at = {"sub": row["sub"], "ses": row["ses"]}
    present = [name for name in sequences if row[name] != "n/a"]
    earlier = SESSIONS.get((row["sub"], row["prior"]))
    followup = with_prior and earlier is not None and earlier["labels"] != "n/a"
    return {
        **at,
        "images": {
            REFERENCE: rules.preprocess.output.image.format(**at),
            **{
                name: rules.register_sequence.output.image.format(**at, mod=name)
                for name in present
            },
        },
        "mask": rules.strip.output.mask.format(**at),
        "labels": row["labels"],
        "scheme": config["labels"]["scheme"],
        "prior": rules.propagate.output.labels.format(**at) if followup else None,
        "prior_image": rules.register.output.moved.format(**at) if followup else None,
    }


def files_of(sessions):
    """All files of such sessions in one list, for Snakemake."""
    return [
        path
        for session in sessions
        for path in [
            *session["images"].values(),
            *(session[key] for key in ("mask", "labels", "prior", "prior_image")),
        ]
        if path
    ]


@functools.cache
def sessions_to_train_on():
    """The sessions with masks, or what is wrong with them."""
    chosen = config["train"]
    with refusals_end_the_run():
        return datasets.select_sessions(
            list(SESSIONS.values()),
            PARTICIPANTS,
            reference=REFERENCE,
            **{key: chosen[key] for key in ("sequences", "optional", "test_patients")},
        )


def training_sessions(wildcards):
    """The sessions to train on, with their files."""
    chosen = config["train"]
    with_prior = datasets.TASKS[chosen["task"]].has_prior
    return [
        session_to_learn_from(row, chosen["sequences"], with_prior=with_prior)
        for row in sessions_to_train_on()
    ]


def training_files(wildcards):
    return files_of(training_sessions(wildcards))


@functools.cache
def methods_to_compare():
    """The methods, or what the cohort lacks for them."""
    chosen = config["compare"]
    images = [
        REFERENCE,
        *(
            name
            for name in SEQUENCES
            if any(row[name] != "n/a" for row in SESSIONS.values())
        ),
    ]
    with refusals_end_the_run():
        known = methods.list_methods(methods.read_sizes(chosen), sequences=images)
        found = methods.choose_methods(known, chosen["methods"], sequences=images)
    return {method.name: method for method in found}


def methods_to_predict():
    """Those that are trained, and what runs with their weights."""
    trained = list(methods_to_compare())
    return trained + [name for name, base in methods.DERIVED.items() if base in trained]


def sequences_to_compare():
    """The sequences that some method asks for."""
    asked = {
        name for method in methods_to_compare().values() for name in method.channels
    }
    return [name for name in SEQUENCES if name in asked]


@functools.cache
def sessions_to_compare():
    """The sessions with masks that have what every method needs: all are compared on the same ones."""
    needed = {
        name
        for method in methods_to_compare().values()
        for name in method.channels
        if name not in method.optional
    }
    with refusals_end_the_run():
        return datasets.select_sessions(
            list(SESSIONS.values()),
            {},
            reference=REFERENCE,
            sequences=sequences_to_compare(),
            optional=[name for name in sequences_to_compare() if name not in needed],
            test_patients=[],
        )


@functools.cache
def patients_by_set():
    """Patients to train on, to choose thresholds on and to compare on."""
    chosen = config["compare"]
    patients = {row["sub"] for row in sessions_to_compare()}
    with refusals_end_the_run():
        return study_cases.split_patients(
            sorted(patients),
            test=sorted(
                datasets.find_test_patients(PARTICIPANTS, chosen["test_patients"])
                & patients
            ),
            **{key: chosen[key] for key in ("test_share", "development_share", "seed")},
        )


def compared_sessions(name):
    """The sessions of a set."""
    patients = patients_by_set()[name]
    return [
        session_to_learn_from(row, sequences_to_compare())
        for row in sessions_to_compare()
        if row["sub"] in patients
    ]


def compared_files(name):
    return lambda wildcards: files_of(compared_sessions(name))


def results_folder(wildcards):
    return str(OUT)


def session_row(wildcards):
    return SESSIONS[wildcards.sub, wildcards.ses]


def patient_rows(wildcards):
    """The patient's rows of the cohort table: small, so that another patient's new visit reruns nothing here."""
    return VISITS.get(wildcards.sub, [])


def participant(wildcards):
    return PARTICIPANTS[wildcards.sub]


def treatments_of(wildcards):
    """The patient's treatments, as people's table names them: lesions have numbers only after matching."""
    return FOUND.treatments.get(wildcards.sub, [])


# ---------------------------------------------------------------------------------------------------------- provenance


def source_digest(script, *data):
    """Digest of a script, the library modules it uses and the project's files it reads: results are never stale."""
    return provenance.source_digest(
        ROOT / "scripts" / script, data=[Path(path) for path in data]
    )


# Once per folder, not once per session.
describe_model = functools.cache(model_folder.read_description)
identify_model = functools.cache(model_folder.identify_model)
list_model = functools.cache(settings.list_model_files)


def model_of(wildcards, task):
    """The folder of the model that runs on a session."""
    return MODELS[wildcards.sub, wildcards.ses][task]


def model_files(task):
    """The files of the session's model: a changed model reruns what it made."""
    return lambda wildcards: list_model(model_of(wildcards, task))


def networks_of(wildcards):
    """What is kept of the session's models beside its labels, by task."""
    row = SESSIONS[wildcards.sub, wildcards.ses]
    return {
        task: identify_model(folder) | {"Sequences": sequences_given(folder, row)}
        for task, folder in MODELS[wildcards.sub, wildcards.ses].items()
        if folder
    }


def candidate_level(wildcards):
    """From what probability on detection's model calls a candidate; None where it is not asked or does not say."""
    folder = MODELS[wildcards.sub, wildcards.ses].get("detection")
    return folder and thresholds.candidate_level(describe_model(folder))


def calibration(wildcards):
    """What makes probabilities of the session's components calibrated ones; None where detection's model has nothing."""
    folder = MODELS[wildcards.sub, wildcards.ses].get("detection")
    return folder and describe_model(folder).get("calibration")


def edge_level(wildcards):
    """Down to what probability the session's lesions reach: the networks that decide on voxels say."""
    folders = MODELS[wildcards.sub, wildcards.ses]
    wanted = [folders.get(task) for task in fusion.NETWORKS]
    return thresholds.edge_level(describe_model(folder) for folder in wanted if folder)


def shows_edema(wildcards):
    """Whether edema can be told at a session: a person has drawn it, or the networks see a sequence that shows it."""
    row = SESSIONS[wildcards.sub, wildcards.ses]
    if given_labels(wildcards):
        return drawn.can_show_edema(config["labels"]["scheme"])
    folders = MODELS[wildcards.sub, wildcards.ses]
    drawn_by = ("edema",) if folders.get("edema") else fusion.NETWORKS
    run = [describe_model(folders[task]) for task in drawn_by if folders.get(task)]
    return edema.show_edema(run, [name for name in SEQUENCES if row[name] != "n/a"])


def operated(wildcards):
    """Whether surgery before a session is on record."""
    return cohorts.operated_before(
        treatments_of(wildcards),
        FOUND.participants[wildcards.sub],
        SESSIONS[wildcards.sub, wildcards.ses]["days"],
    )


def memory_mb(first):
    """More memory with every attempt."""
    return lambda wildcards, attempt: first * attempt


# How to register rigidly, without the limits by which the result is judged.
ENGINE = {
    key: value
    for key, value in settings.rigid_settings(config).items()
    if not key.startswith("dice_")
}
# What decides what a network becomes.
TRAINING_SETTINGS = {
    key: config["train"][key]
    for key in (
        "task",
        "epochs",
        "steps",
        "validation_steps",
        "save_every",
        "device",
        "bf16",
        "seed",
        "tile_vox",
        "alpha",
        "priors",
    )
}
# Of what a registry of lesions depends on.
MATCHING_HASH = settings.digest(
    {key: config[key] for key in ("instances", "measure", "match")}
)
REGISTRY_OF_WEIGHTS = str(ROOT / "resources" / "weights.yaml")
CAPTIONS = str(ROOT / "workflow" / "report")
# Where BIDS URIs lead: what images are made of is named in these.
DATASETS = {"": str(OUT), "raw": config["bids"], "labels": config["labels"]["folder"]}
REFERENCES = str(ROOT / "resources" / "references.bib")
GPU = 1 if config["segment"]["device"] == "cuda" else 0

# ----------------------------------------------------------------------------------------------------------------- a run

if WRITES and not OWNER and not FETCHES:
    jobs.forget_failures(OUT)
if workflow.is_main_process and not OWNER and not FETCHES:
    # All that results depend on, for results whose making Snakemake does not remember.
    results.expire_unknown(
        OUT,
        {
            "settings": settings.without_places(config),
            "code": provenance.project_digest(ROOT),
            "sessions": list(SESSIONS.values()),
            "participants": PARTICIPANTS,
            "treatments": FOUND.treatments,
        },
        write=WRITES,
    )


def tell(**event):
    """Tell whoever shows progress (snakemake_logger_plugin_mettrail); other logs see nothing of it."""
    logger.info(None, extra={"mettrail": event})


def say(lines):
    """Say what people have to know of their data."""
    for line in lines:
        print(line, file=sys.stderr)
    tell(event="problems", lines=lines)


def say_problems():
    """Print what is excluded, has a warning, or was given and is not used."""
    say(cohorts.describe_problems(COHORT.to_dict("records"), FOUND.not_used))


def tell_plan():
    """Tell how many jobs of each rule there will be for each patient."""
    planned = collections.Counter(
        (job.rule.name, job.wildcards_dict.get("sub", ""))
        for job in workflow.dag.needrun_jobs()
    )
    tell(event="plan", jobs=[[*key, count] for key, count in planned.items()])


if workflow.is_main_process and workflow.output_settings.dryrun:
    say_problems()


def start_run():
    """Refuse to make results where somebody else does; say what is wrong with the dataset."""
    if OWNER:
        raise WorkflowError(
            f"\n{OUT}: {OWNER} is writing here. Wait for it, or stop it, or name another folder: out=FOLDER."
        )
    say_problems()
    tell_plan()
    stop_idle_clocks()
    jobs.announce_run(workflow.execution_settings.retries)


def stop_idle_clocks():
    """Lift Snakemake's standard limit of 100 jobs started per second.

    Snakemake (9.27) sets a clock for it at every step of its scheduler and never stops one: after a few hundred jobs it
    looks through all that are ready hundreds of times a second. A limit that was asked for stays.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def end_run(succeeded):
    """Say what failed, make it ready to be tried again, and see that the exit status tells."""
    jobs.remove_placeholders(OUT)
    lines = jobs.describe_failures(jobs.read_failures(OUT))
    said = [sub_file("desc-inputs_problems.tsv").format(sub=sub) for sub in PATIENTS]
    say(cohorts.describe_found(said))
    for line in lines:
        print(line, file=sys.stderr)
    if succeeded and not lines:
        results.mark_complete(OUT, since=STARTED)
    results.unlock()
    if succeeded and lines:
        raise WorkflowError(
            f"{len(lines)} failed; the rest of the cohort is finished: {OUT}/index.html. The same command tries again."
        )
