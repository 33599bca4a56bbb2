"""Make a synthetic dataset: `python scripts/phantom.py --spec config/phantom_demo.yaml --seed 1 --out DIR`."""

import argparse
from pathlib import Path

import numpy as np
import yaml
from mettrail import phantom, project

# Specifications that are shipped, by name.
SHIPPED_NAMES = ("demo", "responses", "compare_quick", "compare_full", "resection")
SHIPPED = {name: project.root() / "config" / f"phantom_{name}.yaml" for name in SHIPPED_NAMES}

if __name__ == "__main__":
    parser = argparse.ArgumentParser("mettrail phantom", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the BIDS dataset")
    parser.add_argument(
        "--seed", type=int, default=1, help="below 1,000,000; the same seed makes the same files (default: 1)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--spec",
        default="demo",
        help=f"YAML with the patients, sessions and lesions, or one of {', '.join(SHIPPED_NAMES)} (default: demo)",
    )
    what.add_argument("--random", type=int, nargs=2, metavar=("PATIENTS", "SESSIONS"), help="a random cohort instead")
    arguments = parser.parse_args()
    if arguments.random:
        patients, sessions = arguments.random
        spec = phantom.random_cohort_spec(patients, sessions, np.random.default_rng(arguments.seed))
    else:
        spec = yaml.safe_load(Path(SHIPPED.get(arguments.spec, arguments.spec)).read_text())
    phantom.make_cohort(spec, arguments.out, seed=arguments.seed)
