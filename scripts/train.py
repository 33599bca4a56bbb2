"""Train the shipped networks: `scripts/train.py --settings config/train.yaml --scans FOLDER --out FOLDER`."""

import argparse
from pathlib import Path

import yaml
from mettrail.training.drawing import DRAWERS, train_drawer
from mettrail.training.training import train_all

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=Path, default="config/train.yaml")
    parser.add_argument("--out", type=Path, required=True, help="cases, checkpoints, logs and model folders go here")
    parser.add_argument(
        "--scans", type=Path, help="real heads, see resources/training/README.md; phantoms alone if omitted"
    )
    parser.add_argument(
        "--task",
        choices=("detection", "resegmentation", *DRAWERS),
        help="one network for detection and resegmentation, if omitted",
    )
    parser.add_argument("--start-from", type=Path, help="model folder whose weights training of lesions starts from")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    arguments = parser.parse_args()
    settings = yaml.safe_load(arguments.settings.read_text())
    if arguments.task in DRAWERS:
        if arguments.scans is None:
            parser.error(f"{arguments.task} is painted into real heads: say where they are (--scans)")
        train_drawer(arguments.task, arguments.out, scans=arguments.scans, settings=settings, resume=arguments.resume)
    else:
        train_all(
            [arguments.task] if arguments.task else ["detection", "resegmentation"],
            arguments.out,
            settings=settings,
            scans=arguments.scans,
            start_from=arguments.start_from,
            resume=arguments.resume,
        )
