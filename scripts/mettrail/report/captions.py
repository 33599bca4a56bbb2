"""Captions of the stages: reStructuredText with settings, shown on the pages.

Settings stand in them as in all templates of Snakemake: ``{{ snakemake.config.strip.fit_warn }}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.core import publish_doctree
from docutils.utils import SystemMessage
from jinja2 import Environment, StrictUndefined, TemplateError

from mettrail.errors import InputError
from mettrail.reasons import Reason

# The order in which data goes through the stages.
STAGES = (
    *("index", "debias", "strip", "preprocess", "register", "propagate"),
    *("segment", "measure", "match", "assess", "report"),
)
_STYLES = {nodes.Text: "plain", nodes.strong: "strong", nodes.literal: "code"}
_PARSER = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "warning_stream": False,
    "halt_level": 2,  # a warning is an error
}


@dataclass(frozen=True)
class Run:
    """Words of one style: ``plain``, ``strong`` or ``code``."""

    text: str
    style: str


Caption = tuple[tuple[Run, ...], ...]
"""Paragraphs of runs."""


def read_captions(folder: str | Path, config: Mapping[str, Any]) -> dict[str, Caption]:
    """Read the captions of the stages, with the settings they speak of filled in.

    Parameters
    ----------
    folder : path
        Holds ``<stage>.rst``.
    config : mapping
        The settings.

    Raises
    ------
    InputError
        A caption speaks of a setting that does not exist, or holds more than `parse_caption` takes.
    """
    captions = {}
    settings = Environment(autoescape=False, undefined=StrictUndefined)
    for path in sorted(Path(folder).glob("*.rst")):
        try:
            text = settings.from_string(path.read_text(encoding="utf-8")).render(snakemake={"config": config})
        except TemplateError as error:
            raise _bad_caption(path, str(error), "settings of config/config.yaml") from error
        captions[path.stem] = parse_caption(text, path)
    return captions


def parse_caption(text: str, path: str | Path = "caption") -> Caption:
    """Parse a caption: paragraphs of text, ``**strong**`` and ````code````.

    Parameters
    ----------
    text : str
        reStructuredText.
    path : path
        Where it stands, for messages.

    Raises
    ------
    InputError
        It is no reStructuredText, or holds anything else: a page would not show it.

    Examples
    --------
    >>> parse_caption("See **this**.")[0][1]
    Run(text='this', style='strong')
    """
    try:
        blocks = publish_doctree(text, source_path=str(path), settings_overrides=_PARSER).children
    except SystemMessage as error:
        raise _bad_caption(path, str(error), "reStructuredText") from error
    unknown = [b for b in blocks if not isinstance(b, nodes.paragraph)]
    unknown += [part for b in blocks for part in b.children if type(part) not in _STYLES]
    if unknown:
        raise _bad_caption(path, type(unknown[0]).__name__, "paragraphs of text, **strong** and ``code``")
    return tuple(
        tuple(Run(part.astext().replace("\n", " "), _STYLES[type(part)]) for part in block.children) for block in blocks
    )


def _bad_caption(path: str | Path, found: str, expected: str) -> InputError:
    return InputError(
        str(path), found=found, expected=expected, advice="Correct the caption.", reason=Reason.BAD_CAPTION
    )
