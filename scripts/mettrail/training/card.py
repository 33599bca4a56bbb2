"""The model card: README.md of a model folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def write_card(
    description: Mapping[str, Any],
    *,
    title: str,
    introduction: Sequence[str] = (),
    facts: Sequence[str] = (),
    sections: Sequence[str] = (),
) -> str:
    """Return the card of a model.

    Parameters
    ----------
    description : dict
        mettrail.json.
    title : str
    introduction : list of str
        Paragraphs before the facts.
    facts : list of str
        More of them than mettrail.json has.
    sections : list of str
        Paragraphs and tables after the facts.
    """
    listed = [
        f"Trained on: {description['trained_on']}.",
        f"Trained with: {description['trained_with']}.",
        f"Input: {', '.join(description['channels'])}; RAS, 1 mm, bias-corrected, 0 outside the brain mask grown by "
        "3 mm.",
        f"{_say_lesion(description)}.",
        *facts,
        f"Licence: {description['licence']}",
    ]
    return "\n\n".join([f"# {title}", *introduction, as_list(listed), *sections]) + "\n"


def _say_lesion(description: Mapping[str, Any]) -> str:
    """Say from when on a voxel is lesion, edema or cavity."""
    if description["task"] == "edema":
        return "Edema where it is likelier than not, beside a lesion that other models have found"
    if description["task"] == "cavity":
        return "Cavity where it is likelier than not, in connected components of 0.2 mL or more that are sure enough"
    lesion = f"Whole lesion from a probability of {description['threshold']:g}"
    if description["min_component_score"]:
        lesion += f", with a confidence score of at least {description['min_component_score']:g}"
        lesion += " (mean probability of the connected component, or of a clearer part of it)"
    if description.get("edge_threshold") is not None:
        lesion += f"; its edge is drawn where the probability falls to {description['edge_threshold']:g}"
    if description.get("candidate_threshold") is not None:
        lesion += f". From {description['candidate_threshold']:g} on, what touches no other lesion is one as well"
    if description.get("calibration") is not None:
        lesion += (
            "; how probable each connected component is a lesion is given by a logistic regression on the logit of its "
            "mean probability"
        )
    return lesion


def as_list(lines: Sequence[str]) -> str:
    """Return lines as a list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def as_table(head: tuple[str, str], rows: Mapping[str, object]) -> str:
    """Return a table of two columns in Markdown.

    Examples
    --------
    >>> print(as_table(("figure", "value"), {"lesions": 161}))
    | figure | value |
    | --- | --- |
    | lesions | 161 |
    """
    lines = [head, ("---", "---"), *rows.items()]
    return "\n".join(f"| {name} | {value} |" for name, value in lines)
