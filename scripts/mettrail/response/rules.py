"""The settings of the response as the criteria read them: blocks ``rano`` and ``volume``, made into one value once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from mettrail.geometry import sphere_diameter_mm

Size: TypeAlias = Literal["ld", "volume"]
SIZES: tuple[Size, ...] = ("ld", "volume")
# Settings that become `Limits`.
_OF_LIMITS = ("pr", "pd", "pd_abs_mm", "abs_rule")


@dataclass(frozen=True)
class Limits:
    """From what change on lesions respond or progress, by one size.

    Parameters
    ----------
    pr, pd : float
        Decrease from baseline and increase from nadir, as fractions.
    least_growth : float
        How much must have grown besides for PD, in the unit of `scale`.
    of_sum : bool
        Whether the sum must have grown by that (RECIST 1.1), not one lesion (RANO-BM).
    scale : function
        In what growth is counted, from a size in mm or mL.
    """

    pr: float
    pd: float
    least_growth: float
    of_sum: bool = False
    scale: Callable[[float], float] = float


@dataclass(frozen=True)
class Rules:
    """What decides a response: config/README.md says what each setting is for.

    Parameters
    ----------
    ld, volume : Limits
        Of diameters (mm) and of volumes (mL).
    """

    ld: Limits
    volume: Limits
    max_targets: int
    ld_min_mm: float
    perp_min_mm: float
    slices_min: int
    baseline_window_days: float
    confirm: bool
    confirm_days: float
    sd_min_days: float
    tsm_mode: Literal["measured", "floor5"]
    small_lesions: bool
    irano: bool
    srs_requires_confirmation: bool
    treatment_effect_days: tuple[float, float]
    physiologic_dex_mg: float
    steroid_increase_ratio: float
    recurrence_is_new: bool
    new_definite_mm: float
    new_confirm_sessions: int
    hidden_slice_ratio: float
    nontarget_min_mm: float
    nontarget_pd_mm: float
    nontarget_pd: float
    nontarget_volume_pd_ml: float
    nontarget_volume_pd: float
    edema_growth_ml: float
    edema_growth_ratio: float
    residual_shift_warn_mm: float

    @classmethod
    def of(cls, *, rano: Mapping[str, Any], volume: Mapping[str, Any]) -> Rules:
        """Read the blocks ``rano`` and ``volume`` of the settings."""
        others = {name: value for name, value in rano.items() if name not in _OF_LIMITS}
        low, high = others.pop("treatment_effect_days")
        return cls(
            ld=Limits(rano["pr"], rano["pd"], rano["pd_abs_mm"], of_sum=rano["abs_rule"] == "sum"),
            volume=_limits_of_volume(volume),
            treatment_effect_days=(low, high),
            **others,
        )

    def limits(self, size: Size) -> Limits:
        """Return the limits of a size."""
        return self.ld if size == "ld" else self.volume

    @property
    def one_lesion(self) -> Limits:
        """Limits of the diameter of one lesion alone: its own growth counts, whatever is asked of a sum."""
        return dataclasses.replace(self.ld, of_sum=False)


def _limits_of_volume(volume: Mapping[str, Any]) -> Limits:
    if volume["abs_rule"] == "diameter":
        return Limits(volume["pr"], volume["pd"], volume["pd_abs_esd_mm"], scale=_sphere_mm)
    return Limits(volume["pr"], volume["pd"], volume["pd_abs_ml"])


def _sphere_mm(volume_ml: float) -> float:
    """Diameter of the sphere of a volume."""
    return sphere_diameter_mm(1000 * volume_ml)
