"""Hold the library's tracking against dense fields of lesions whose identity is known, voxel by voxel.

    PYTHONPATH=tests python tests/benchmarks/tracking.py [--patients 6] [--trial NAME ...] [--stable 40] [--verbose]

Prints per trial the identity F1 over lesions at visits, switches of identity, precision and recall of new and gone
lesions; and how many patients in whom nothing changes are SD at every visit, by diameters and by volumes. Names of
trials (or parts of them) are in `oracle.fields.TRIALS`; what counts how is said there.
"""

import argparse
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that PYTHONPATH need not name it

from agreement import Score, follow, judge_stable, track_field
from oracle import fields

HEAD = (
    "trial", "lesions at visits", "identity F1", "switches",
    "new: precision", "recall", "of", "gone: precision", "recall", "of",
)  # fmt: skip


def run_trial(name: str, seed: int) -> Score:
    score, drawn = Score(), fields.draw_field(seed, fields.TRIALS[name])
    track_field(drawn, follow(drawn), score)
    return score


def run_stable(seed: int) -> tuple[int, list[str], Counter]:
    return seed, *judge_stable(follow(fields.draw_stable(seed)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=6, help="per trial")
    parser.add_argument("--trial", nargs="*", default=[""], help="parts of names; none: no trial")
    parser.add_argument("--stable", type=int, default=40, help="patients in whom nothing changes")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--verbose", action="store_true", help="say where library and truth part")
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.patients)
    names = [name for name in fields.TRIALS if any(part in name for part in asked.trial)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        trials = {name: [pool.submit(run_trial, name, seed) for seed in seeds] for name in names}
        stable = [pool.submit(run_stable, seed) for seed in range(asked.first, asked.first + asked.stable)]
        if names:
            print(f"| {' | '.join(HEAD)} |\n| {' | '.join(['---'] * len(HEAD))} |")
        for name, parts in trials.items():
            score = Score()
            for part in parts:
                score += part.result()
            events = [
                f"{score.precision(event):.2f} | {score.recall(event):.2f} | {score.events[event]['true']}"
                for event in ("new", "absent")
            ]
            cells = [name, score.pairs["true"], f"{score.identity_f1:.3f}", score.switches, *events]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
            if asked.verbose:
                print(*score.differences, "", sep="\n")
        if stable:
            steady, flags, answers = 0, Counter(), Counter()
            for part in stable:
                seed, wrong, own = part.result()
                steady += not wrong
                flags += own
                answers.update({line.split(" ", 1)[1] for line in wrong})
                if asked.verbose and wrong:
                    print(f"stable {seed}: {'; '.join(wrong)}")
            print(f"\nStable: {steady} of {len(stable)} SD at every visit, by diameters and by volumes.")
            print(f"Patients with another answer: {dict(answers.most_common())}")
            print(f"Flags of follow-ups: {dict(flags.most_common())}")


if __name__ == "__main__":
    main()
