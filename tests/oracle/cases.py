"""Random patients as tables alone: any history of sizes, also such as no mask would show.

They hold the rules of response to account in every corner: lesions that vanish, return, merge, fall apart, are out of
sight, stop enhancing, are compared like with like at pairs of sessions, were irradiated; sizes sit on thresholds.
"""

from dataclasses import dataclass

import numpy as np

from oracle import patients, response
from oracle.response import Cell, Pair


@dataclass
class History:
    """A case, and who takes part in it."""

    participant: dict
    case: response.Case


def draw_history(seed):
    """The history of a seed; the same seed draws the same history."""
    rng = np.random.default_rng([seed, 11])
    while True:
        try:
            calendar = patients.draw_calendar(rng, seed, slow=bool(rng.random() < 0.5))
            break
        except patients.UnclearError:
            continue
    n, first = len(calendar.days), calendar.used[calendar.baseline]
    style = str(rng.choice(["any", "calm", "clearing", "nothing"], p=[0.45, 0.25, 0.25, 0.05]))
    count = 0 if style == "nothing" else int(rng.integers(1, 8))
    lesions = {number: _draw_cells(rng, calendar, style, first) for number in range(1, count + 1)}
    if style == "nothing" and rng.random() < 0.3:
        lesions = {1: [None] * (n - 1) + [_seen(rng, 8.0)]}
    lesions = {
        number: cells for number, cells in lesions.items() if any(map(all, zip(cells, calendar.evaluable, strict=True)))
    }
    lesions = dict(enumerate(lesions.values(), start=1))
    if style == "any":
        _merge(rng, lesions, n, first)
    with_dose = rng.random() < 0.35
    doses = [float(rng.choice([0, 0.75, 2, 2.2, 4, 8])) if with_dose and rng.random() < 0.9 else None for _ in range(n)]
    clinical = [str(rng.choice(["stable", "improved", "worse"], p=[0.75, 0.15, 0.1])) if rng.random() < 0.3 else None
                for _ in range(n)]  # fmt: skip
    spacing = [float(rng.choice([1.0, 1.5, 3.0, 6.0], p=[0.7, 0.15, 0.1, 0.05])) for _ in range(n)]
    visits = [
        response.Visit(day, fine, f"ses-{s + 1}", dose, status,
                       (None if rng.random() < 0.7 else bool(rng.random() < 0.5)) if status == "worse" else None, gap)
        for s, (day, fine, dose, status, gap) in enumerate(
            zip(calendar.days, calendar.evaluable, doses, clinical, spacing, strict=True)
        )
    ]  # fmt: skip
    comparisons = {}
    if rng.random() < 0.4:
        for now in range(1, n):
            for then in range(first, now):
                for number, cells in lesions.items():
                    a, b = cells[now], cells[then]
                    plain = a and b and a.status == b.status == "present" and not (a.fragments or b.fragments)
                    if plain and response.visible(a) and response.visible(b) and rng.random() < 0.15:
                        f, g = rng.uniform(0.7, 1.3, size=2)
                        comparisons[now, then, number] = Pair(
                            _tick(a.ld * f), _tick(b.ld * g), a.volume * f**3, b.volume * g**3
                        )
    irradiated = {}
    if first == 0 and rng.random() < 0.3 and lesions:
        number = int(rng.choice(list(lesions)))
        irradiated[number] = calendar.days[0] + float(rng.choice([-100, -1, 0, 1]))
    start, immune = (calendar.participant[f"{name}_start_day"] for name in ("treatment", "immunotherapy"))
    case = response.Case(
        visits, lesions, start, immune, calendar.participant["treatment_type"], comparisons, irradiated
    )
    return History(calendar.participant, case)


def _tick(size):
    """Sizes in half millimetres, so that thresholds are met exactly."""
    return max(round(float(size) * 2) / 2, 1.0)


def _seen(rng, ld, dead=False):
    ld = _tick(ld)
    perp = ld if rng.random() < 0.8 else _tick(ld * rng.uniform(0.4, 1.0))
    volume = float(np.pi / 6 * ld * perp * ld * rng.uniform(0.9, 1.1))
    enhancing = 0.0 if dead else volume * float(rng.choice([1.0, 0.6, 0.11, 0.09], p=[0.7, 0.2, 0.05, 0.05]))
    side = max(1, round(ld))
    flat = rng.random() < 0.05
    box = (side, side, 1 if flat else max(1, round(perp)))
    fragments = ()
    if ld > 12 and rng.random() < 0.06:
        parts = [_tick(ld * rng.uniform(0.3, 0.6)) for _ in range(2)]
        fragments = tuple((part, float(np.pi / 6 * part**3)) for part in parts)
        # The diameter of a lesion in pieces is that of its largest piece.
        ld, volume = max(parts), sum(v for _, v in fragments)
        perp, enhancing = min(perp, ld), (0.0 if dead else volume)
    voxels = int(enhancing)
    return Cell("present", ld, perp, box[2], box, volume, enhancing, voxels, fragments)


def _draw_cells(rng, calendar, style, first):
    n = len(calendar.days)
    born = 0 if rng.random() < (0.75 if style != "clearing" else 0.9) else int(rng.integers(0, n))
    size = float(rng.choice([rng.uniform(3, 9), rng.uniform(9.5, 30)]))
    drift = {"any": (0.5, 1.6), "calm": (0.85, 1.15), "clearing": (0.3, 1.0)}[style]
    leave = {"any": 0.15, "calm": 0.03, "clearing": 0.35}[style]
    back = {"any": 0.4, "calm": 0.5, "clearing": 0.25}[style]
    cells, gone = [], False
    for s in range(n):
        if s < born:
            cells.append(None)
            continue
        if not calendar.evaluable[s]:
            cells.append(Cell("not_evaluable") if any(cells) else None)
            continue
        if any(cells):
            size *= rng.uniform(*drift)
            gone = rng.random() >= back if gone else rng.random() < leave
            if rng.random() < 0.02:
                cells.append(Cell("not_evaluable"))
                continue
        size = float(np.clip(size, 2.5, 45))
        if gone:
            cells.append(Cell("absent"))
        else:
            # What does not enhance at baseline, and later does, could be called new or not.
            cells.append(_seen(rng, size, dead=s > first and any(cells) and rng.random() < 0.03))
    return cells


def _merge(rng, lesions, n, first):
    """Make one lesion part of another for some sessions after baseline, as where no cut can be found."""
    if len(lesions) < 2 or rng.random() < 0.5:
        return
    owner, absorbed = (int(number) for number in rng.choice(list(lesions), size=2, replace=False))
    at = int(rng.integers(first + 1, n))
    before = lesions[owner][at - 1], lesions[absorbed][at - 1]
    if not all(cell and cell.status == "present" for cell in before):
        return
    for s in range(at, int(rng.integers(at, n)) + 1):
        cells = lesions[owner][s], lesions[absorbed][s]
        if all(cell and cell.status == "present" for cell in cells):
            lesions[absorbed][s] = Cell("merged", merged_into=owner)
