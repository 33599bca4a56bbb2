"""Columns of the tables that `scripts/evaluate.py` writes."""

from __future__ import annotations

from mettrail.schema.columns import PARTICIPANT, SESSION, boolean, enum, floating, integer, text

_METHOD = text("method", "Method, as named by the user.")
_TISSUE = enum(
    "tissue",
    "What is scored.",
    {
        "whole": "whole lesion: labels 1 and 3; the tumour core of BraTS",
        "enhancing": "label 1",
        "edema": "label 2",
        "necrosis": "label 3",
        "with_edema": "labels 1, 2 and 3: the whole tumour of BraTS",
    },
)
_SUBSET = enum(
    "subset",
    "Scans that count.",
    {
        "all": "all",
        "first": "first visits",
        "follow-up": "all others",
        "known_only": "follow-ups without a new lesion; none where the prior session's labels are not given",
    },
)
_FIRST = boolean("first_session", "Whether this is the patient's first visit with labels.")
_KNOWN_ONLY = boolean(
    "known_only", "Whether it is a follow-up without a new lesion; n/a where the prior session's labels are not given."
)
_DIAMETERS = {
    "<3 mm": "true lesions below 3 mm: diameter of the sphere of their volume",
    "3-5 mm": "from 3 mm",
    "5-10 mm": "from 5 mm",
    ">10 mm": "from 10 mm",
}
_SCORE_GROUPS = {
    "all": "all",
    "found": "true lesions that a predicted one touches",
    "1-3": "scans with 1 to 3 true lesions",
    "4-10": "scans with 4 to 10 true lesions",
    ">10": "scans with more than 10 true lesions",
} | _DIAMETERS
EVALUATION_SCANS = (
    _METHOD, PARTICIPANT, SESSION, _TISSUE, _FIRST, _KNOWN_ONLY,
    boolean("empty", "Neither labels nor prediction have any: excluded from means, except of false positive lesions."),
    floating("truth_mm3", "Volume of the labels.", "mm^3"),
    floating("predicted_mm3", "Volume of the prediction.", "mm^3"),
    floating("dsc", "Dice similarity coefficient; 1 where both are empty.", "1"),
    floating("ndsc", "Dice without its preference for large lesions (Raina et al. 2023), in the brain mask.", "1"),
    floating("voxel_recall", "Voxels of the labels that are predicted.", "1"),
    floating("voxel_precision", "Predicted voxels that are in the labels.", "1"),
    floating("hd95_mm", "95th percentile of surface distance; 374 mm where one of both is empty, as in BraTS.", "mm"),
    integer("n_truth", "True lesions (26-connected)."),
    integer("n_predicted", "Predicted lesions."),
    floating(
        "f1",
        "F1 score of lesions that overlap by an IoU over 25 % (Andrearczyk et al. 2024); with --f1-connectivity and "
        "--f1-inclusive by these rules, as tpr and fdr.",
        "1",
    ),
    floating("tpr", "True positive rate: true lesions that a predicted one overlaps by as much.", "1"),
    floating("fdr", "False discovery rate: predicted lesions that overlap no true one by as much.", "1"),
    integer("n_found", "True lesions that share a voxel with a predicted one."),
    floating("sensitivity", "n_found over n_truth.", "1"),
    integer("n_false", "False positive lesions: predicted ones that share no voxel with a true one."),
    integer("n_false_10mm3", "Of these, those of 10 mm^3 and more."),
    floating("dsc_found", "Mean Dice of true lesions found with the predicted ones that touch them.", "1"),
    floating("lesionwise_dsc", "Lesion-wise Dice of BraTS-METS 2023.", "1"),
    floating("lesionwise_hd95_mm", "Lesion-wise HD95 of BraTS-METS 2023.", "mm"),
    floating(
        "lesionwise_dsc_2026",
        "Lesion-wise Dice of BraTS-METS 2026, over true lesions from 27 mm^3 (--brats-large-mm3) and all false "
        "positives; n/a without such a true lesion.",
        "1",
    ),
    floating("lesionwise_nsd_2026", "Normalised surface Dice of the same; tolerance: the shortest voxel edge.", "1"),
    floating(
        "small_f1_2026",
        "F1 score of smaller true lesions, found from a Dice of 0.2 (--brats-min-dice), with all false positives; n/a "
        "without such a true lesion.",
        "1",
    ),
    floating("pq", "Panoptic quality of lesions matched at an IoU of 0.5: rq times sq.", "1"),
    floating("rq", "Recognition quality: F1 of these.", "1"),
    floating("sq", "Segmentation quality: mean IoU of these.", "1"),
    integer("n_new", "Whole lesions that touch none of the prior session's; n/a where those are not given."),
    integer("n_vanished", "Lesions of the prior session where the labels hold none."),
    integer("n_vanished_left", "Of these, those where a false positive lesion is predicted."),
    integer("n_false_vanished", "False positive lesions that touch a vanished one."),
)  # fmt: skip
EVALUATION_LESIONS = (
    _METHOD, PARTICIPANT, SESSION,
    integer("lesion", "Number of the true whole lesion within its scan."),
    _FIRST, _KNOWN_ONLY,
    boolean("new", "Whether it touches none of the prior session's lesions; n/a where those are not given."),
    floating("volume_mm3", "Its volume.", "mm^3"),
    floating("diameter_mm", "Diameter of the sphere of this volume.", "mm"),
    enum("diameter_group", "Band of diameter_mm.", _DIAMETERS),
    boolean("found", "Whether it shares a voxel with a predicted one."),
    floating("dsc", "Dice with the predicted lesions that touch it; 0 if missed.", "1"),
    floating("ndsc", "Normalised Dice of the same.", "1"),
)  # fmt: skip
EVALUATION_PROBABILITIES = (
    _METHOD, PARTICIPANT, SESSION, _FIRST, _KNOWN_ONLY,
    integer("n_truth", "True whole lesions inside the brain mask, where all of this table is counted."),
    floating("auc", "Area under the ROC curve of voxels; n/a without lesion voxels.", "1"),
    floating("youden_threshold", "Threshold where sensitivity and specificity together are highest on this scan.", "1"),
    floating("youden_sensitivity", "Sensitivity of voxels at youden_threshold.", "1"),
    floating("youden_specificity", "Specificity of voxels at youden_threshold.", "1"),
    floating("threshold", "Threshold of the columns that follow; chosen on other scans, or given.", "1"),
    text("threshold_from", "Where it comes from; n/a without one."),
    floating("threshold_dsc", "Dice at threshold.", "1"),
    floating("threshold_recall", "Voxels of the labels at or above threshold.", "1"),
    floating("threshold_precision", "Voxels at or above threshold that are in the labels.", "1"),
    floating("threshold_sensitivity", "True lesions that share a voxel with a lesion at threshold.", "1"),
    integer("threshold_n_false", "Lesions at threshold that share no voxel with a true one."),
    integer("threshold_n_false_10mm3", "Of these, those of 10 mm^3 and more."),
)  # fmt: skip
EVALUATION_FROC = (
    _METHOD, _SUBSET, _TISSUE,
    floating("min_mm3", "Least volume of a lesion: smaller ones are neither found nor missed nor false.",
           "mm^3"),
    floating("threshold", "Connected components of voxels with at least this probability are predicted lesions.", "1"),
    integer("n_scans", "Scans with a probability map, also those without a lesion."),
    integer("n_lesions", "True lesions from min_mm3 on inside the brain mask, where all of this table is counted."),
    integer("n_found", "True lesions that share a voxel with a predicted one."),
    integer("n_false", "False positive lesions: predicted ones that share no voxel with a true one."),
    floating("sensitivity", "n_found over n_lesions.", "1"),
    floating("false_per_scan", "n_false over n_scans.", ""),
    boolean("merging", "Whether it is below the threshold with the most false positive lesions: from there on "
                     "predicted lesions merge, and the row is not part of the curve."),
)  # fmt: skip
EVALUATION_SUMMARY = (
    _METHOD, _SUBSET, _TISSUE,
    enum("group", "Scans or lesions of the subset that count.", _SCORE_GROUPS),
    text(
        "score",
        "A column of scans or probabilities, over scans; lesion_found, lesion_dsc, lesion_ndsc, over true lesions; "
        "pooled_sensitivity, pooled_precision: n_found over all true lesions, and over n_found and n_false together; "
        "froc_sensitivity_0.125 to froc_sensitivity_8: highest sensitivity of the curve in froc at no more than so "
        "many false positive lesions per scan; froc_sensitivity: their mean (LUNA16).",
    ),
    integer("n", "Scans or lesions with a value."),
    floating("mean", "Mean over them, in the unit of the score.", ""),
    floating("sd", "Standard deviation (n - 1).", ""),
)  # fmt: skip
EVALUATION_TESTS = (
    _METHOD,
    enum(
        "test",
        "What was tested.",
        {
            "paired_t": "the method is better than another: paired one-tailed t-test over patients (their means)",
            "rank_sum": "scans of a group differ from those of another: rank-sum test, two-sided, Holm's correction",
            "spearman": "the score of a lesion correlates with its volume: Spearman correlation",
        },
    ),
    text("against", "The other method, the other group, or volume_mm3."),
    _SUBSET, _TISSUE,
    enum("group", "As in the summary.", _SCORE_GROUPS),
    text("score", "As in the summary."),
    integer("n", "Patients, scans of both groups, or lesions."),
    floating("statistic", "t, or Spearman's rho; n/a for rank-sum tests.", ""),
    floating("p", "n/a where no test can be made.", ""),
)  # fmt: skip
