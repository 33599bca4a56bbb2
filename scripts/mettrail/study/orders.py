"""What the papers found, asked of one cohort: each order with its figures, and whether it holds here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mettrail.segmentation.model_folder import POST_CONTRAST
from mettrail.study.methods import ANDREARCZYK, GROVIK, HUANG, SADEGHEIH, SHORT, name_inputs

# Sadegheih's detector saves six parts in seven; an order holds from this share on.
SAVED = 0.85
# The 2.5-D network is as good as the 3-D one within so much Dice.
AS_GOOD = 0.05


@dataclass(frozen=True)
class Interval:
    """A mean, and where 95 of 100 means over other patients would lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Order:
    """One finding of a paper.

    Parameters
    ----------
    paper, claim : str
    there : str
        The paper's figures, on its patients.
    here : str
        The figures of this cohort.
    holds : bool, or None
        None where what it takes was not compared.
    """

    paper: str
    claim: str
    there: str
    here: str
    holds: bool | None


class Results:
    """What was scored; see `evaluation.scoring`.

    Parameters
    ----------
    scans, froc : DataFrame
        ``evaluation_scans`` and ``evaluation_froc``.
    costs : DataFrame
        ``method``, ``cpu_s``, ``gmacs`` of each session.
    inputs : DataFrame
        ``inputs``, ``seed``, ``participant_id``, ``dsc`` of the study of inputs.
    draws : int
        Bootstrap samples of patients.
    seed : int
    """

    def __init__(
        self,
        scans: pd.DataFrame,
        froc: pd.DataFrame,
        costs: pd.DataFrame,
        inputs: pd.DataFrame,
        *,
        draws: int,
        seed: int,
    ) -> None:
        self.scans, self.froc, self.costs, self.inputs = scans, froc, costs, inputs
        self.draws, self.seed = draws, seed

    def has(self, *methods: str) -> bool:
        """Say whether all of these were scored."""
        return set(methods) <= set(self.scans["method"])

    def of(self, method: str, *, tissue: str = "whole", followups: bool = False) -> pd.DataFrame:
        """Return a method's scans."""
        rows = self.scans[(self.scans["method"] == method) & (self.scans["tissue"] == tissue)]
        return rows[~rows["first_session"].astype(bool)] if followups else rows

    def mean(self, method: str, score: str, *, tissue: str = "whole", followups: bool = False) -> Interval:
        """Return the mean of a score over the scans in which it has a meaning; NaN where it has none in any."""
        rows = self.of(method, tissue=tissue, followups=followups)
        return self._ratio(rows, rows[score].fillna(0), rows[score].notna(), nothing=np.nan)

    def precision(self, method: str) -> Interval:
        """Return the share of components called that are lesions, of all scans together."""
        rows = self.of(method)
        return self._ratio(rows, rows["n_found"], rows["n_found"] + rows["n_false"])

    def sensitivity(self, method: str) -> Interval:
        """Return the share of lesions that are found, of all scans together."""
        rows = self.of(method)
        return self._ratio(rows, rows["n_found"], rows["n_truth"])

    def gmacs(self, method: str) -> float:
        """Return the mean operations of a session."""
        return float(self.costs.loc[self.costs["method"] == method, "gmacs"].mean())

    def false_at(self, method: str, sensitivity: float) -> float:
        """Return the fewest false lesions per scan at which a method finds so many; infinite where it never does."""
        curve = self.froc[
            (self.froc["method"] == method)
            & (self.froc["subset"] == "all")
            & (self.froc["tissue"] == "whole")
            & ~self.froc["merging"].astype(bool)
        ]
        curve = curve[curve["min_mm3"] == curve["min_mm3"].min()]
        enough = curve[curve["sensitivity"] >= sensitivity]
        return float(enough["false_per_scan"].min()) if len(enough) else float("inf")

    def reached(self, method: str) -> float:
        """Return the highest sensitivity of a method's free-response curve."""
        return float(self.froc.loc[self.froc["method"] == method, "sensitivity"].max())

    def _ratio(self, rows: pd.DataFrame, part: pd.Series, whole: pd.Series, *, nothing: float = 0.0) -> Interval:
        """Return the sum of one column over that of another, `nothing` where both are 0; patients are drawn."""
        sums = pd.DataFrame({"part": part, "whole": whole}, dtype=float).groupby(rows["participant_id"]).sum()
        if sums.empty:
            return Interval(nothing, np.nan, np.nan)
        drawn = np.random.default_rng(self.seed).integers(len(sums), size=(self.draws, len(sums)))
        parts, wholes = (
            np.append(sums[name].to_numpy()[drawn].sum(axis=1), sums[name].sum()) for name in ("part", "whole")
        )
        ratios = np.divide(parts, wholes, out=np.full(len(wholes), nothing), where=wholes > 0)
        low, high = np.nanquantile(ratios[:-1], [0.025, 0.975]) if np.isfinite(ratios[:-1]).any() else (np.nan, np.nan)
        return Interval(float(ratios[-1]), float(low), float(high))


def find_orders(results: Results, *, alphas: Sequence[float]) -> list[Order]:
    """Ask every order of what was scored."""
    return [
        *_sensitivity(results, alphas),
        *_prior_image(results, alphas),
        *_two_stage(results),
        *_inputs(results),
        *_slices(results),
        *_edema(results),
        *_followups(results),
    ]


def _sensitivity(results: Results, alphas: Sequence[float]) -> Iterator[Order]:
    names = {alpha: f"deepmedic_plus_{alpha:g}" for alpha in sorted(alphas, reverse=True)}
    claim = f"sensitivity falls and precision rises as alpha goes from {max(alphas):g} to {min(alphas):g}"
    there = "DeepMedic, alpha 1: 0.975, 0.274; 0.995: 0.946, 0.516; 0.5: 0.802, 0.987; DeepMedic+, 0.995: 0.932, 0.621"
    there += "; 0.5: 0.842, 0.996 (table 1)"
    if not results.has(*names.values()):
        yield Order(HUANG, claim, there, "not compared", None)
        return
    found = [(alpha, results.sensitivity(name).mean, results.precision(name).mean) for alpha, name in names.items()]
    here = "; ".join(f"alpha {alpha:g}: {sensitivity:.3f}, {precision:.3f}" for alpha, sensitivity, precision in found)
    (_, most, least), (_, fewer, better) = found[0], found[-1]
    yield Order(HUANG, claim, there, here, bool(most > fewer and better > least))


def _prior_image(results: Results, alphas: Sequence[float]) -> Iterator[Order]:
    plain, channel, path = "deepmedic", "deepmedic_channel", f"deepmedic_plus_{alphas[-1]:g}"
    claims = (
        "a path for the prior image lowers false positives at equal sensitivity",
        "the prior image as a channel raises them",
    )
    theirs = (
        "alpha 0.995: 1.53 false per patient at sensitivity 0.932; without 2.40 at 0.946; follow-ups: 100, not 180",
        "one example, no figures (figure 2)",
    )
    if not results.has(plain, channel, path):
        yield from (Order(HUANG, *said, "not compared", None) for said in zip(claims, theirs, strict=True))
        return
    # What all three reach.
    equal = min(
        *(results.sensitivity(name).mean for name in (plain, channel, path)),
        *(results.reached(name) for name in (plain, channel, path)),
    )
    without, as_channel, as_path = (results.false_at(name, equal) for name in (plain, channel, path))
    at = f"at sensitivity {equal:.3f}: without {without:.2f} false per scan"
    yield Order(HUANG, claims[0], theirs[0], f"{at}, path {as_path:.2f}", bool(as_path < without))
    yield Order(HUANG, claims[1], theirs[1], f"{at}, channel {as_channel:.2f}", bool(as_channel > without))


def _two_stage(results: Results) -> Iterator[Order]:
    claim = f"the detector saves at least {SAVED:.0%} of the operations, and lesion-wise Dice is not lower"
    there = (
        "a patch of 64 voxels 60 GFLOPS, 7 where nothing is found; one of a 3-D U-Net, 128 voxels, 478; lesion-wise "
    )
    there += "Dice 0.536 (table 2), 3-D U-Net 0.491 (table 1)"
    if not results.has("two_stage", "segmenter_alone"):
        yield Order(SADEGHEIH, claim, there, "not compared", None)
        return
    saved = 1 - results.gmacs("two_stage") / results.gmacs("segmenter_alone")
    both, alone = (results.mean(name, "lesionwise_dsc") for name in ("two_stage", "segmenter_alone"))
    here = f"{saved:.1%} saved; lesion-wise Dice {both} against {alone}"
    yield Order(SADEGHEIH, claim, there, here, bool(saved >= SAVED and both.mean >= alone.mean))


def _inputs(results: Results) -> Iterator[Order]:
    claims = ("T1c is indispensable", "all four sequences are not better than the best three")
    theirs = (
        "Dice, mean of three regions: worst with it, T1c and FLAIR, 0.685; best without, FLAIR, 0.524 (table 1)",
        "all 0.698; T1w, T1c and FLAIR 0.722; lesion-wise 0.462 and 0.491 (table 1)",
    )
    means = {str(name): rows["dsc"].mean() for name, rows in results.inputs.groupby("inputs")}
    with_contrast = [name for name in means if SHORT[POST_CONTRAST] in name.removeprefix("inputs_").split("-")]
    without = [name for name in means if name not in with_contrast]
    if not with_contrast or not without:
        yield from (Order(SADEGHEIH, *said, "not compared", None) for said in zip(claims, theirs, strict=True))
        return
    worst, best = min(with_contrast, key=means.__getitem__), max(without, key=means.__getitem__)
    here = f"worst with it {worst} {means[worst]:.3f}, best without {best} {means[best]:.3f}"
    yield Order(SADEGHEIH, claims[0], theirs[0], here, bool(means[worst] > means[best]))
    everything = name_inputs(SHORT)
    three = [name for name in means if name.count("-") == 2]
    if everything not in means or not three:
        yield Order(SADEGHEIH, claims[1], theirs[1], "not compared", None)
        return
    best = max(three, key=means.__getitem__)
    here = f"all {means[everything]:.3f}, {best} {means[best]:.3f}"
    yield Order(SADEGHEIH, claims[1], theirs[1], here, bool(means[everything] <= means[best]))


def _slices(results: Results) -> Iterator[Order]:
    claim = f"the 2.5-D network comes within {AS_GOOD:g} Dice of the 3-D one, with fewer operations"
    there = "Dice 0.79 (table 3), as another group's 3-D network on its patients; 1 minute a scan, not 20"
    if not results.has("googlenet", "unet"):
        yield Order(GROVIK, claim, there, "not compared", None)
        return
    slices, volumes = (results.mean(name, "dsc") for name in ("googlenet", "unet"))
    share = results.gmacs("googlenet") / results.gmacs("unet")
    here = f"Dice {slices} against {volumes}, at {share:.2f} of the operations"
    yield Order(GROVIK, claim, there, here, bool(slices.mean >= volumes.mean - AS_GOOD and share < 1))


def _edema(results: Results) -> Iterator[Order]:
    studied = (
        ("detection", "unet", "unet_t2w", False, "not studied"),
        ("re-segmentation", "unet_prior", "unet_prior_t2w", True, "Dice of edema 0.52 without, 0.62 with it"),
    )
    for task, without, helped, followups, there in studied:
        claim = f"T2w helps edema in {task}"
        if not results.has(without, helped):
            yield Order(ANDREARCZYK, claim, there, "not compared", None)
            continue
        plain, better = (results.mean(name, "dsc", tissue="edema", followups=followups) for name in (without, helped))
        here = f"Dice of edema {plain} without, {better} with it"
        yield Order(ANDREARCZYK, claim, there, here, bool(better.mean > plain.mean))


def _followups(results: Results) -> Iterator[Order]:
    there = "Dice 0.78, detection 0.56, registration 0.74; F1 0.88, 0.60, 0.93 (table 3, whole lesions)"
    for sees, suffix in (("T1c", ""), ("T1c and T2w", "_t2w")):
        claim = f"on follow-ups, re-segmentation beats detection and registration alone, from {sees}"
        names = (f"unet_prior{suffix}", f"unet{suffix}", "registration")
        if not results.has(*names):
            yield Order(ANDREARCZYK, claim, there, "not compared", None)
            continue
        dice: Mapping[str, Interval] = {name: results.mean(name, "dsc", followups=True) for name in names}
        f1 = {name: results.mean(name, "f1", followups=True) for name in names}
        here = "; ".join(f"{name}: Dice {dice[name]}, F1 {f1[name].mean:.3f}" for name in names)
        better = all(dice[names[0]].mean > dice[name].mean for name in names[1:])
        yield Order(ANDREARCZYK, claim, there, here, bool(better))
