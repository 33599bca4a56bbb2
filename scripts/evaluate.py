"""Score predictions against labels, per method, in the papers' own tables.

scripts/evaluate.py --labels FOLDER --out FOLDER NAME=FOLDER [NAME=FOLDER ...]

Folders hold sub-*/ses-*/anat/*_dseg.nii.gz with 1 enhancing, 2 edema, 3 necrosis. Written: evaluation.md to read, and
scans, lesions, probabilities, froc, summary and tests as CSV, each with a JSON that explains its columns.
"""

import argparse
import sys
from pathlib import Path

from mettrail.errors import InputError
from mettrail.evaluation.metrics import RULES, Rules
from mettrail.evaluation.scoring import Settings, evaluate, read_pairs

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        "mettrail evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="+", metavar="NAME=FOLDER", help="predictions of a method")
    parser.add_argument("--labels", type=Path, required=True, help="the same: manual segmentations")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--reference", help="method that the others are tested against; the last if omitted")
    parser.add_argument("--labelled-only", action="store_true", help="exclude predictions without labels")
    parser.add_argument("--bids", type=Path, help="dataset whose sub-*/sub-*_sessions.tsv say when the sessions were")
    parser.add_argument("--masks", type=Path, help="*brain_mask.nii.gz: the domain of nDSC and of probabilities")
    prior = parser.add_mutually_exclusive_group()
    prior.add_argument(
        "--priors", type=Path, help="*_desc-prior_dseg.nii.gz: the prior session's labels in each one's space"
    )
    prior.add_argument("--aligned", action="store_true", help="all sessions of a patient are in one space already")
    parser.add_argument("--probabilities", metavar="DESC", help="of several *_probseg.nii.gz of a session, which desc-")
    parser.add_argument(
        "--threshold-from",
        nargs="+",
        default=[],
        metavar="NAME=FOLDER",
        help="a method's probability maps of other scans, to choose its threshold (mean of Youden's); or NAME=NUMBER",
    )
    parser.add_argument(
        "--validation", type=Path, nargs=2, metavar=("LABELS", "MASKS"), help="labels and brain masks of these scans"
    )
    papers = parser.add_argument_group("what papers and their code do in more than one way")
    papers.add_argument(
        "--f1-connectivity", type=int, choices=(6, 18, 26), help="lesions of F1, TPR, FDR; the Shifts code has 6"
    )
    papers.add_argument(
        "--f1-inclusive", action="store_true", help="an IoU of exactly 25 %% is enough, as in that code"
    )
    papers.add_argument("--brats-large-mm3", type=float, help="BraTS-METS 2026 scores the outline from this volume on")
    papers.add_argument("--brats-min-dice", type=float, help="and counts smaller lesions as found from this Dice on")
    papers.add_argument("--froc-min-mm3", type=float, help="least volume of a lesion in free-response curves")
    papers.set_defaults(**vars(RULES))
    arguments = vars(parser.parse_args())
    try:
        rules = Rules(**{name: arguments.pop(name) for name in vars(RULES)})
        methods = read_pairs(arguments.pop("methods"), example="nnunet=derivatives/nnunet")
        thresholds = read_pairs(arguments.pop("threshold_from"), example="nnunet=0.5")
        folders = dict(zip(methods, map(Path, methods.values()), strict=True))
        labels, out, reference = (arguments.pop(name) for name in ("labels", "out", "reference"))
        settings = Settings(thresholds=thresholds, rules=rules, **arguments)
        evaluate(folders, labels, out, reference=reference, settings=settings)
    except InputError as error:
        sys.exit(str(error))
