"""Score predictions against labels, per method, in the papers' own tables.

scripts/evaluate.py --labels FOLDER --out FOLDER NAME=FOLDER [NAME=FOLDER ...]
"""

import argparse
import sys
from pathlib import Path

from mettrail.errors import InputError
from mettrail.evaluation import evaluate, read_methods

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", metavar="NAME=FOLDER", help="sub-*/ses-*/anat/*_dseg.nii.gz of a method")
    parser.add_argument("--labels", type=Path, required=True, help="the same, drawn by people")
    parser.add_argument("--masks", type=Path, help="sub-*/ses-*/anat/*brain_mask.nii.gz: the domain of nDSC")
    parser.add_argument("--reference", help="method that the others are tested against; the last if omitted")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    arguments = parser.parse_args()
    try:
        methods = read_methods(arguments.methods)
        evaluate(methods, arguments.labels, arguments.out, masks=arguments.masks, reference=arguments.reference)
    except InputError as error:
        sys.exit(str(error))
