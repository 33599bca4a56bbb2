"""The page of a comparison: what was compared, what the papers found and whether it holds here, all their tables."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt

from mettrail.evaluation.page import table
from mettrail.study.methods import Method
from mettrail.study.orders import Order, Results

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}th,td{border:1px solid #c8c8c8;padding:.25rem .6rem}"
    "th{background:#f2f2f2;text-align:left}img{max-width:100%}"
)

_HOLDS = {True: "yes", False: "no", None: ""}


def make_page(
    methods: Sequence[Method],
    results: Results,
    orders: Iterable[Order],
    *,
    sets: Mapping[str, Mapping[str, int]],
    settings: Mapping[str, Any],
    evaluation: str,
) -> str:
    """Make the page.

    Parameters
    ----------
    methods : sequence of Method
    results : Results
    orders : iterable of Order
    sets : mapping
        Of each set, the number of ``patients``, ``sessions`` and ``lesions``.
    settings : mapping
        ``compare`` of the configuration.
    evaluation : str
        The page of `evaluation.page`, whose tables are the papers'; empty where only inputs were studied.

    Returns
    -------
    str
        Markdown.
    """
    return "\n".join(
        [
            "# The published methods, compared",
            "",
            _cohort(sets),
            "## What the papers found, and whether it holds here",
            "",
            table(
                ("paper", "finding", "in the paper, on its patients", "here", "holds"),
                [(order.paper, order.claim, order.there, order.here, _HOLDS[order.holds]) for order in orders],
                text=5,
            ),
            "",
            "## Figures",
            "",
            "Means over the test patients' scans, with 95 % intervals by bootstrap over patients; sensitivity and "
            "precision of all lesions together. Operations are multiplications and additions of one session. "
            "Registration has nothing to say of first visits, which count here as scans without a call.",
            "",
            _figures(results),
            "",
            *_inputs(results),
            "## How they were trained",
            "",
            _training(methods, settings),
            "",
            evaluation.replace("\n## ", "\n### ").replace("# ", "## The papers' tables: ", 1),
        ]
    )


def as_html(markdown: str) -> str:
    """Return a page as one HTML file that needs nothing else but its picture."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>The published methods, compared</title><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def _cohort(sets: Mapping[str, Mapping[str, int]]) -> str:
    rows = [(name, *(counts[key] for key in ("patients", "sessions", "lesions"))) for name, counts in sets.items()]
    return table(("set", "patients", "sessions", "lesions"), rows, text=1) + "\n"


def _figures(results: Results) -> str:
    rows = []
    for method in dict.fromkeys(results.scans["method"]):
        cost = results.costs[results.costs["method"] == method]
        rows.append(
            (
                method,
                results.mean(method, "dsc"),
                results.mean(method, "lesionwise_dsc"),
                results.sensitivity(method),
                results.precision(method),
                results.mean(method, "n_false"),
                f"{cost['gmacs'].mean():,.1f}" if len(cost) else "",
                f"{cost['cpu_s'].mean():.0f}" if len(cost) else "",
            )
        )
    head = (
        "method",
        "Dice",
        "lesion-wise Dice",
        "sensitivity",
        "precision",
        "false per scan",
        "10⁹ operations",
        "CPU s",
    )
    return table(head, rows, text=1)


def _inputs(results: Results) -> list[str]:
    if not len(results.inputs):
        return []
    by_seed = results.inputs.groupby(["inputs", "seed"])["dsc"].mean().groupby("inputs")
    means = pd.DataFrame({"mean": by_seed.mean(), "low": by_seed.min(), "high": by_seed.max()})
    rows = [
        (
            str(name).removeprefix("inputs_").replace("-", ", "),
            f"{row['mean']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
        )
        for name, row in means.sort_values("mean", ascending=False).iterrows()
    ]
    return [
        "## Which sequences",
        "",
        "Dice of whole lesions of one small U-Net, mean and range over its trainings.",
        "",
        table(("sequences", "Dice", "range"), rows, text=1),
        "",
        "![Dice by sequences](inputs.svg)",
        "",
    ]


def _training(methods: Sequence[Method], settings: Mapping[str, Any]) -> str:
    rows = []
    for method in methods:
        if method.name.startswith("inputs_") and method.seed:
            continue
        for part in method.parts:
            rows.append(
                (
                    f"{method.name} {part.name}".strip(), method.paper, ", ".join(method.channels),
                    f"{part.size.width:g}", "x".join(map(str, part.patch)), part.size.batch, part.size.steps,
                    part.loss, part.optimiser,
                )
            )  # fmt: skip
    head = ("network", "paper", "channels", "width", "patch", "batch", "steps", "loss", "optimiser")
    return table(head, rows, text=9) + f"\n\nSeed {settings['seed']}; {platform.machine()}, {_processor()}.\n"


def _processor() -> str:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return gpu or f"{torch.cpu.get_capabilities().get('cpu_name', 'CPU')} with {torch.get_num_threads()} threads"
