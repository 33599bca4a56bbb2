"""The tables of an evaluation as one page to read, laid out as the papers have them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mettrail.evaluation import metrics
from mettrail.report.text import records_of
from mettrail.schema.cells import number_of, text_of

ALPHA = 0.05
LABELS = {"whole": "1+3", "enhancing": "1", "edema": "2", "necrosis": "3"}
REGIONS = {"with_edema": "WT (1+2+3)", "whole": "TC (1+3)", "enhancing": "ET (1)"}
BANDS = ("<3 mm", "3-5 mm", "5-10 mm", ">10 mm")
SUBSETS = {
    "all": "All scans (full)",
    "first": "First visits (first appearance)",
    "follow-up": "Follow-ups",
    "known_only": "Follow-ups without a new lesion",
}


Result = tuple[int, float, float]
"""Of a mean: n, mean, standard deviation; of a test: n, statistic, p."""
_NONE: Result = (0, math.nan, math.nan)


class Scores:
    """Means and tests of an evaluation, to be looked up by what they are of."""

    def __init__(self, written: Mapping[str, pd.DataFrame]):
        of = ["method", "subset", "tissue", "group", "score"]
        self.means = _look_up(written["summary"], of, ("mean", "sd"))
        self.tests = _look_up(written["tests"], ["test", *of, "against"], ("statistic", "p"))

    def mean(self, *of: str) -> Result:
        """Return n, mean and standard deviation of method, subset, tissue, group, score."""
        return self.means.get(of, _NONE)

    def test(self, *of: str) -> Result:
        """Return n, statistic and p of test, method, subset, tissue, group, score, against."""
        return self.tests.get(of, _NONE)

    def cell(self, *of: str, against: str = "", digits: int = 2) -> str:
        """Show a mean as the papers do; with an asterisk where it is better than the method `against`."""
        _, mean, sd = self.mean(*of)
        method, subset, tissue, group, score = of
        better = against and self.test("paired_t", method, subset, tissue, group, score, against)[2] < ALPHA
        spread = "" if math.isnan(sd) else f" ± {sd:.{digits}f}"
        return show(mean, digits) + ("*" if better else "") + spread


def _look_up(table: pd.DataFrame, keys: Sequence[str], values: tuple[str, str]) -> dict[tuple[str, ...], Result]:
    """Return n and two values of each row by what they are of."""
    one, two = values
    return {
        tuple(text_of(row, key) for key in keys): (int(row["n"]), number_of(row, one), number_of(row, two))
        for row in records_of(table)
    }


@dataclass(frozen=True)
class Evaluation:
    """What a page is made from.

    Attributes
    ----------
    written : mapping of name to DataFrame
        See `make_page`.
    names : sequence of str
        The methods, in order.
    reference : str
        The method that the others are tested against.
    settings : mapping
        How the methods were scored, see `scoring.score_methods`.
    """

    written: Mapping[str, pd.DataFrame]
    names: Sequence[str]
    reference: str
    settings: Mapping[str, Any]

    @cached_property
    def scores(self) -> Scores:
        """Means and tests."""
        return Scores(self.written)

    @property
    def rules(self) -> metrics.Rules:
        """The rules by which the methods were scored."""
        rules: metrics.Rules = self.settings.get("rules", metrics.RULES)
        return rules

    @property
    def has_priors(self) -> bool:
        """Whether the labels of prior sessions were given."""
        return bool(self.settings.get("priors") or self.settings.get("aligned"))

    def why_no_map(self, otherwise: str) -> str:
        """Say why no probability map was scored."""
        return otherwise if self.settings.get("masks") else "they need brain masks (`--masks`)"


def show(number: float, digits: int = 2) -> str:
    """Show a number; a dash where there is none."""
    return "–" if math.isnan(number) else f"{number:.{digits}f}"


def show_p(p: float) -> str:
    """Show the p of a test."""
    return "–" if math.isnan(p) else "<0.0001" if p < 1e-4 else f"{p:.4f}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, text: int) -> str:
    """Lay out a Markdown table; so many columns are text, the others are numbers."""
    lines = [header, [*["---"] * text, *["---:"] * (len(header) - text)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def make_page(
    written: Mapping[str, pd.DataFrame],
    methods: Mapping[str, Path],
    labels: Path,
    *,
    reference: str,
    settings: Mapping[str, Any],
) -> str:
    """Make the page.

    Parameters
    ----------
    written : mapping of name to DataFrame
        ``scans``, ``lesions``, ``probabilities``, ``froc``, ``summary``, ``tests``, as `evaluation.evaluate` writes
        them, with ``froc.svg`` beside.
    methods, labels, reference, settings
        What was scored, against what, and how.

    Returns
    -------
    str
        Markdown.
    """
    run = Evaluation(written, list(methods), reference, settings)
    sections = (
        _segmentation,
        _size,
        _detection,
        _diameters,
        _vanished,
        _brats,
        _brats_2026,
        _panoptic,
        _numbers,
        _froc,
    )
    return "\n".join([_head(run, methods, labels), *(section(run) for section in sections)])


def _head(run: Evaluation, methods: Mapping[str, Path], labels: Path) -> str:
    scans = run.written["scans"]
    one = scans[(scans["method"] == run.names[0]) & (scans["tissue"] == "whole")]
    lines = [
        "# Evaluation",
        "",
        f"{len(one)} scans of {one['participant_id'].nunique()} patients, {one['n_truth'].sum()} lesions; "
        f"{int(one['first_session'].sum())} first visits. Labels: `{labels}`.",
        "",
        *[f"- **{name}**: `{folder}`" for name, folder in methods.items()],
        "",
        "Mean ± standard deviation over scans, unless said otherwise; – where there is no value. A scan in which "
        "neither the labels nor a method have anything is excluded from that method's means, except those of "
        "false lesions. Lesions are 26-connected. nDSC is normalised to "
        + ("the brain mask" if run.settings.get("masks") else "the whole image (no brain masks given)")
        + f" and a mean share of lesion of {metrics.MEAN_FRACTION:g}.",
        "",
        "Visits are in the order of "
        + (
            "the dates in the dataset, where it has them."
            if run.settings.get("bids")
            else "their labels (no dataset given)."
        ),
    ]
    return "\n".join(lines) + "\n"


def _segmentation(run: Evaluation) -> str:
    better = (
        f" \\* better than {run.reference}: paired one-tailed t-test over patients, p < {ALPHA}, not corrected for the "
        "number of tests."
        if len(run.names) > 1
        else ""
    )
    text = [
        "## Segmentation and detection by label\n",
        "As tables 2 and 3 of Andrearczyk et al. 2024: lesions overlap by an IoU "
        f"{'of 25 % or more' if run.rules.f1_inclusive else 'over 25 %'}, and are "
        f"{run.rules.f1_connectivity}-connected here.{better}\n",
    ]
    columns = {"dsc": "DSC ↑", "ndsc": "nDSC ↑", "f1": "F1 ↑", "tpr": "TPR ↑", "fdr": "FDR ↓"}
    for subset, title in SUBSETS.items():
        text.append(f"### {title}\n")
        if subset == "known_only" and not run.has_priors:
            text.append("Not scored: the prior session's labels were not given (`--priors` or `--aligned`).\n")
            continue
        rows = [
            [label, name, run.scores.mean(name, subset, tissue, "all", "dsc")[0]]
            + [run.scores.cell(name, subset, tissue, "all", score, against=run.reference) for score in columns]
            for tissue, label in LABELS.items()
            for name in run.names
        ]
        text.append(table(["labels", "method", "scans", *columns.values()], rows, text=2))
    return "\n".join(text)


def _size(run: Evaluation) -> str:
    rows = []
    for subset, title in SUBSETS.items():
        for name in run.names:
            for group in ("all", "found"):
                row = [title, name, group]
                for score in ("lesion_dsc", "lesion_ndsc"):
                    n, rho, p = run.scores.test("spearman", name, subset, "whole", group, score, "volume_mm3")
                    row += [show(rho), show_p(p)]
                rows += [[*row[:3], n, *row[3:]]] if n else []
    return (
        "## Does size matter?\n\nSpearman's correlation of a lesion's volume with its score (Andrearczyk et al. 2024); "
        "a missed lesion has 0.\n\n"
        + table(["scans", "method", "lesions", "n", "DSC: rho", "p", "nDSC: rho", "p"], rows, text=3)
    )


def _detection(run: Evaluation) -> str:
    rows = []
    for subset, title in SUBSETS.items():
        for name in run.names:
            n, rate, _ = run.scores.mean(name, subset, "whole", "all", "n_false")
            if not n:
                continue
            shares = []
            for score in ("pooled_sensitivity", "pooled_precision"):
                of, share, _ = run.scores.mean(name, subset, "whole", "all", score)
                shares.append(f"{show(share, 3)} ({round(share * of)}/{of})" if of else "–")
            large = run.scores.mean(name, subset, "whole", "all", "n_false_10mm3")[1]
            dice = show(run.scores.mean(name, subset, "whole", "found", "lesion_dsc")[1], 3)
            rows.append([title, name, n, *shares, round(rate * n), show(rate), show(large), dice])
    header = ["scans", "method", "n", "sensitivity", "precision", "#FP", "FP per scan", "from 10 mm³", "mDSC"]
    return (
        "## Detection of whole lesions\n\nAs table 1 of Huang et al. 2022: lesions of all scans together; one voxel in "
        "common is enough; mDSC is the mean Dice of the lesions found.\n\n" + table(header, rows, text=2)
    )


def _diameters(run: Evaluation) -> str:
    rows = []
    for name in run.names:
        row = [name]
        for band in BANDS:
            n, share, _ = run.scores.mean(name, "all", "whole", band, "lesion_found")
            row.append(f"{show(share)} ({round(share * n)}/{n})" if n else "–")
        rows.append(row)
    return (
        "## Recall by diameter\n\nLesions found, of all scans together, by the diameter of the sphere of their volume."
        "\n\n" + table(["method", *BANDS], rows, text=1)
    )


def _vanished(run: Evaluation) -> str:
    scans = run.written["scans"]
    title = "## Lesions that have vanished\n"
    if not run.has_priors:
        return title + "\nNot counted: the prior session's labels were not given (`--priors` or `--aligned`).\n"
    rows = []
    for name in run.names:
        mine = scans[(scans["method"] == name) & (scans["tissue"] == "whole")]
        vanished, left = int(mine["n_vanished"].sum()), int(mine["n_vanished_left"].sum())
        share = f"{left / vanished:.2f}" if vanished else "–"
        per_scan = run.scores.mean(name, "follow-up", "whole", "all", "n_false_vanished")[1]
        false = int(mine["n_false_vanished"].sum())
        rows.append([name, int(mine["n_vanished"].notna().sum()), vanished, left, share, false, show(per_scan)])
    text = (
        "\nLesions of the prior session where the labels of this one hold nothing, and false lesions predicted there."
        "\n\n"
    )
    header = ["method", "follow-ups", "vanished", "still predicted", "share", "false lesions", "per scan"]
    return title + text + table(header, rows, text=1)


def _brats(run: Evaluation) -> str:
    scores_of = {
        "dsc": ("DSC ↑", 2),
        "hd95_mm": ("HD95 ↓", 1),
        "lesionwise_dsc": ("lesion-wise DSC ↑", 2),
        "lesionwise_hd95_mm": ("lesion-wise HD95 ↓", 1),
    }
    rows = [
        [region, name, run.scores.mean(name, "all", tissue, "all", "dsc")[0]]
        + [
            run.scores.cell(name, "all", tissue, "all", score, digits=digits)
            for score, (_, digits) in scores_of.items()
        ]
        for tissue, region in REGIONS.items()
        for name in run.names
    ]
    return (
        "## BraTS-METS 2023\n\nAs table 2 of Sadegheih and Merhof 2024, by the rules of the challenge of 2023: "
        "a missed lesion and a false positive count as 374 mm.\n\n"
        + table(["region", "method", "scans", *(title for title, _ in scores_of.values())], rows, text=2)
    )


def _brats_2026(run: Evaluation) -> str:
    rows = []
    for tissue, region in REGIONS.items():
        for name in run.names:
            row: list[object] = [region, name]
            for scored in (("lesionwise_dsc_2026", "lesionwise_nsd_2026"), ("small_f1_2026",)):
                row.append(run.scores.mean(name, "all", tissue, "all", scored[0])[0])
                row += [run.scores.cell(name, "all", tissue, "all", score) for score in scored]
            rows.append(row)
    large = f"{run.rules.brats_large_mm3:g} mm³"
    return (
        "## BraTS-METS 2026\n\nBy the rules of the challenge's package (brats-evaluation 0.0.10): lesions are matched "
        f"one to one. DSC and NSD (tolerance: a voxel) are means over true lesions from {large} on and all false "
        "lesions, in scans with such a true lesion; F1 is of smaller true lesions, found from a Dice of "
        f"{run.rules.brats_min_dice:g} on, and of all false lesions, in scans with such a true lesion. False lesions "
        "in scans without a true one count in neither.\n\n"
        + table(
            ["region", "method", "scans", "lesion-wise DSC ↑", "lesion-wise NSD ↑", "scans", "F1 of small lesions ↑"],
            rows,
            text=2,
        )
    )


def _panoptic(run: Evaluation) -> str:
    rows = [
        [label, name, *[run.scores.cell(name, "all", tissue, "all", score) for score in ("pq", "rq", "sq")]]
        for tissue, label in LABELS.items()
        for name in run.names
    ]
    return "## Panoptic quality\n\nLesions matched one to one at an IoU of 0.5.\n\n" + table(
        ["labels", "method", "PQ ↑", "RQ ↑", "SQ ↑"], rows, text=2
    )


def _numbers(run: Evaluation) -> str:
    probabilities = run.written["probabilities"]
    text = [
        "## By the number of lesions\n",
        "As tables 3 and 4 of Grøvik et al. 2020, whole lesions; one voxel in common is enough. p: rank-sum tests of "
        "scans, two groups at a time, Holm's correction over the three.\n",
        "### Label maps\n",
        _by_number(
            run,
            run.names,
            {
                "dsc": "Dice",
                "voxel_recall": "recall of voxels",
                "voxel_precision": "precision of voxels",
                "sensitivity": "sensitivity",
                "n_false": "FP",
                "n_false_10mm3": "FP from 10 mm³",
            },
        ),
    ]
    scored = [name for name in run.names if name in set(probabilities["method"])]
    if not scored:
        why = run.why_no_map("no method has any")
        return "\n".join([*text, f"### Probability maps\n\nNot scored: {why}.\n"])
    text += [
        "### Probability maps: voxels inside the brain mask\n",
        "Sensitivity and specificity at the Youden threshold of each scan itself, which is not known beforehand.\n",
        _by_number(
            run,
            scored,
            {"auc": "AUC", "youden_sensitivity": "sensitivity", "youden_specificity": "specificity"},
            digits=3,
        ),
        "### Probability maps at a threshold chosen elsewhere\n",
    ]
    chosen = records_of(probabilities.dropna(subset="threshold").drop_duplicates("method"))
    text += [f"- {row['method']}: {row['threshold']:.3g} ({row['threshold_from']})" for row in chosen]
    if not chosen:
        return "\n".join([*text, "No threshold was given (`--threshold-from`).\n"])
    text += [
        "",
        _by_number(
            run,
            [text_of(row, "method") for row in chosen],
            {
                "threshold_dsc": "Dice",
                "threshold_recall": "recall of voxels",
                "threshold_precision": "precision of voxels",
                "threshold_sensitivity": "sensitivity",
                "threshold_n_false": "FP",
                "threshold_n_false_10mm3": "FP from 10 mm³",
            },
        ),
    ]
    return "\n".join(text)


def _froc(run: Evaluation) -> str:
    froc = run.written["froc"]
    title = "## Free-response ROC\n"
    curves = [name for name in run.names if name in set(froc["method"])]
    if not curves:
        why = run.why_no_map("no method has a probability map")
        return f"{title}\nNo curves: {why}.\n"
    least = f" of {run.rules.froc_min_mm3:g} mm³ or more" if run.rules.froc_min_mm3 else ""
    rows = []
    for subset, about in SUBSETS.items():
        for name in curves:
            curve = froc[(froc["method"] == name) & (froc["subset"] == subset)]
            if len(curve):
                scored = [f"froc_sensitivity_{rate:g}" for rate in metrics.FROC_RATES] + ["froc_sensitivity"]
                cells = [show(run.scores.mean(name, subset, "whole", "all", score)[1]) for score in scored]
                scans, lesions = (int(curve[column].iloc[0]) for column in ("n_scans", "n_lesions"))
                rows.append([about, name, scans, lesions, *cells])
    rates = [f"1/{round(1 / rate)}" if rate < 1 else f"{rate:g}" for rate in metrics.FROC_RATES]
    lacking = [name for name in run.names if name not in curves]
    text = [
        title,
        f"Sensitivity for whole lesions{least} over false lesions per scan, as the threshold on the probability falls "
        "(Bunch et al. 1977), inside the brain mask. As above, one voxel in common is enough: a true lesion is found "
        "where a connected component at or above the threshold touches it, and a component that touches none is false. "
        "Scans without a lesion count in false lesions per scan; scans without a probability map do not count.\n",
        "![Sensitivity over false lesions per scan, by method](froc.svg)\n",
        "Highest sensitivity at no more than so many false lesions per scan, and the mean of these (as LUNA16, Setio "
        "et al. 2017). A curve ends at the threshold with the most false lesions: below it components merge, until one "
        "that fills the brain finds everything.\n",
        table(["scans", "method", "n", "lesions", *rates, "mean"], rows, text=2),
        "**No threshold may be chosen from this curve and then be scored on the same scans.** Choose it on others "
        "(`--threshold-from`, `--validation`).\n",
    ]
    if lacking:
        text.append(f"No probability maps, hence no curve: {', '.join(lacking)}.\n")
    return "\n".join(text)


def _by_number(run: Evaluation, names: Sequence[str], columns: Mapping[str, str], *, digits: int = 2) -> str:
    groups = metrics.LESION_GROUPS
    rows: list[Sequence[object]] = []
    for name in names:
        for group in (*groups, "all"):
            n = run.scores.mean(name, "all", "whole", group, next(iter(columns)))[0]
            cells = [run.scores.cell(name, "all", "whole", group, score, digits=digits) for score in columns]
            rows.append([name, f"{group} lesions" if group != "all" else "all scans", n, *cells])
        for number, one in enumerate(groups):
            for other in groups[number + 1 :]:
                tests = [run.scores.test("rank_sum", name, "all", "whole", one, score, other) for score in columns]
                if not all(math.isnan(p) for _, _, p in tests):
                    rows.append([name, f"p: {one} vs {other}", tests[0][0], *[show_p(p) for _, _, p in tests]])
    return table(["method", "scans", "n", *columns.values()], rows, text=2)
