"""Which lesions are measurable."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mettrail.response.criteria.tolerance import TOLERANCE, at_least, at_most
from mettrail.response.rules import Rules

# Thicker slices want larger lesions: twice the spacing of the slices (RECIST 1.1).
THICK_SLICE_MM, SLICES_ACROSS = 5.0, 2
SMALL_LESION_MM, SMALL_LESION_SLICE_MM = 5.0, 1.5  # RANO-BM's option for thin slices
# Flags of a lesion: purely cystic and dural ones are not measurable (RANO-BM), nor are thick slices that are not axial.
NOT_MEASURABLE = ("not_axial_acq", "cystic_only", "dural")


def is_measurable(
    *,
    ld_mm: float,
    perp_mm: float,
    n_slices: float,
    enhancing: bool = True,
    slice_spacing_mm: float = math.nan,
    flags: Sequence[str] = (),
    rules: Rules,
) -> bool:
    """Whether a lesion can be measured reproducibly (RANO-BM: 10 mm x 5 mm, on two slices of at most 5 mm).

    With the setting ``small_lesions``, 5 mm are enough on slices of at most 1.5 mm. On slices thicker than 5 mm the
    diameter must also be at least twice their spacing (RECIST 1.1); thick slices that are not axial do not count
    (ours). Purely cystic and dural lesions are not measurable (RANO-BM).
    """
    if not enhancing or set(flags) & set(NOT_MEASURABLE):
        return False
    ld_min_mm = rules.ld_min_mm
    if rules.small_lesions and at_most(slice_spacing_mm, SMALL_LESION_SLICE_MM):
        ld_min_mm = min(ld_min_mm, SMALL_LESION_MM)
    thick = slice_spacing_mm > THICK_SLICE_MM + TOLERANCE
    if thick and not at_least(ld_mm, SLICES_ACROSS * slice_spacing_mm):
        return False
    return at_least(ld_mm, ld_min_mm) and at_least(perp_mm, rules.perp_min_mm) and at_least(n_slices, rules.slices_min)
