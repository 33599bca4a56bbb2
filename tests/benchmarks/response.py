"""Hold the library against the oracle on random patients, with true masks and with masks as a network leaves them.

    PYTHONPATH=tests python tests/benchmarks/response.py [--patients 200]

Prints the tables of `response.md` and writes them. A degraded mask has a boundary that wanders by up to a voxel, lacks
5 % of the lesions under 5 mm, and has a false lesion of 3 to 6 mm in every second scan.
"""

import argparse
from pathlib import Path

import numpy as np
from agreement import EVENTS, Score, score_patients
from scipy import ndimage

MISSED, MISSED_BELOW_MM, FALSE_PER_SCAN, FALSE_MM, FALSE_APART_MM = 0.05, 5.0, 0.5, (3.0, 6.0), 6.0
WANDER_VOX = 1.0
COLUMNS = (
    "response_imaging_final",
    "response_overall_final",
    "response_imaging_prospective",
    "response_volumetric_prospective",
)


def degrade(patient, seed: int) -> list[np.ndarray]:
    """Return the patient's tissue labels as a network would have given them, session by session."""
    rng = np.random.default_rng(seed)
    size = {(row["session_id"], row["lesion"]): row["ld_mm"] for row in patient.lesions if row["status"] == "present"}
    out = []
    for session in patient.sessions:
        tissue = session.tissue.copy()
        spacing = np.linalg.norm(session.affine[:3, :3], axis=0)
        for lesion in np.unique(session.truth[session.truth > 0]):
            small = size.get((session.session_id, lesion), np.inf) < MISSED_BELOW_MM
            if small and rng.random() < MISSED:
                tissue[session.truth == lesion] = 0
        lesions = np.isin(tissue, (1, 3))
        # Signed distance to the boundary in voxels, positive inside, moved by a smooth field of at most one voxel.
        inside = ndimage.distance_transform_edt(lesions) - ndimage.distance_transform_edt(~lesions)
        wander = ndimage.gaussian_filter(rng.standard_normal(tissue.shape), 1.5)
        wander = np.clip(wander / wander.std() * WANDER_VOX / 2, -WANDER_VOX, WANDER_VOX)
        noisy = inside - np.sign(inside) * 0.5 + wander > 0
        tissue = np.where(noisy & ~lesions, 1, np.where(lesions & ~noisy, 0, tissue))
        if rng.random() < FALSE_PER_SCAN:
            _add_false_lesion(tissue, lesions, spacing, rng)
        out.append(tissue.astype(session.tissue.dtype))
    return out


def _add_false_lesion(tissue, lesions, spacing, rng):
    radius = rng.uniform(*FALSE_MM) / 2
    margin = np.ceil(radius / spacing).astype(int) + 1
    free = np.argwhere(ndimage.distance_transform_edt(~lesions, sampling=spacing) > radius + FALSE_APART_MM)
    free = free[((free >= margin) & (free < np.array(tissue.shape) - margin)).all(1)]
    if len(free):
        centre = free[rng.integers(len(free))]
        distance = np.sqrt(sum(((a - c) * s) ** 2 for a, c, s in zip(np.indices(tissue.shape), centre, spacing)))
        tissue[distance <= radius] = 1


def describe(score: Score) -> str:
    """Show a score as Markdown."""
    lines = [
        f"Identity F1 {score.identity_f1:.3f} over {score.pairs['true']} lesions at sessions; "
        f"{score.switches} switches of identity.",
        "",
        "| event | true | found | precision | recall |",
        "| --- | --- | --- | --- | --- |",
    ]
    for event, name in EVENTS.items():
        counts = score.events[event]
        cells = [name, counts["true"], counts["found"], f"{score.precision(event):.3f}", f"{score.recall(event):.3f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "| category | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    tables = {column: score.by_category(column) for column in COLUMNS}
    for category in ("CR", "PR", "SD", "PD", "uPD", "NE", "NON_CR_NON_PD"):
        cells = [
            f"{table.loc[category, 'same']} of {table.loc[category, 'sessions']}" if category in table.index else "–"
            for table in tables.values()
        ]
        lines.append(f"| {category} | " + " | ".join(cells) + " |")
    lines.append("| all | " + " | ".join(f"{100 * score.agreement(column):.1f} %" for column in COLUMNS) + " |")
    lines += ["", "Patients whose best response is the same: " + f"{100 * score.agreement('best_response'):.1f} %; "]
    lines[-1] += f"whose day of progression is the same: {100 * score.agreement('progression_day'):.1f} %."
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=200)
    n = parser.parse_args().patients
    text = f"# Agreement with the oracle on {n} random patients\n\n`{__doc__.splitlines()[2].strip()}`\n"
    for title, how in (("True masks", None), ("Masks as a network leaves them", degrade)):
        text += f"\n## {title}\n\n{describe(score_patients(n, how))}"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
