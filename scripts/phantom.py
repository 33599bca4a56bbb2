"""Make a synthetic cohort: `python scripts/phantom.py --spec config/phantom_demo.yaml --seed 1 --out DIR`."""

import argparse
from pathlib import Path

import numpy as np
import yaml
from mettrail import phantom

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the BIDS data set")
    parser.add_argument("--seed", type=int, required=True, help="below 1,000,000; the same seed makes the same files")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--spec", type=Path, help="YAML with the patients, sessions and lesions")
    what.add_argument("--random", type=int, nargs=2, metavar=("PATIENTS", "SESSIONS"), help="a random cohort instead")
    arguments = parser.parse_args()
    spec = (
        yaml.safe_load(arguments.spec.read_text())
        if arguments.spec
        else phantom.random_cohort_spec(*arguments.random, np.random.default_rng(arguments.seed))
    )
    phantom.make_cohort(spec, arguments.out, seed=arguments.seed)
