"""The method of a run, as a text to paste into a paper: what ran, with which settings and tools, and whom to cite."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from mettrail import __version__, project, provenance
from mettrail.report.environment import render
from mettrail.report.ran import Network, Ran
from mettrail.report.references import CITATION, Reference, as_bibtex, choose_references, read_references
from mettrail.segmentation.edges import EDGE_REACH_MM

# Tools by their name, and the packages that bring them.
_PACKAGES = {
    "SimpleITK": "simpleitk",
    "deepbet": "deepbet",
    "HD-BET": "HD_BET",
    "greedy": "picsl_greedy",
    "ANTs": "antspyx",
    "nnU-Net": "nnunetv2",
    "PyTorch": "torch",
    "Snakemake": "snakemake",
}
_ENGINES = {"greedy": "greedy", "ants": "ANTs"}


@dataclass(frozen=True)
class Tool:
    """A program that was used: its version and its licence, as its package states them; empty where it does not."""

    name: str
    version: str
    licence: str


@dataclass(frozen=True)
class About:
    """Which mettrail this is: ``commit`` and ``container`` are empty where they are not known."""

    version: str
    commit: str
    container: str
    settings_hash: str


@dataclass(frozen=True)
class Method:
    """The method of a run.

    Parameters
    ----------
    paragraphs : tuple of str
        They cite by key, ``[@Lin2015]``.
    networks : tuple of Network
    tools : tuple of Tool
    references : tuple of Reference
        What the paragraphs cite, in order.
    """

    paragraphs: tuple[str, ...]
    networks: tuple[Network, ...]
    tools: tuple[Tool, ...]
    references: tuple[Reference, ...]

    @property
    def readable(self) -> list[str]:
        """The paragraphs with authors and years in place of keys."""
        labels = {reference.key: reference.label for reference in self.references}

        def label(found: re.Match[str]) -> str:
            return f"({'; '.join(labels[key] for key in found[1][1:].split('; @'))})"

        return [CITATION.sub(label, paragraph) for paragraph in self.paragraphs]

    @property
    def addresses(self) -> list[str]:
        """Of the references, those that have one."""
        return [reference.address for reference in self.references if reference.address]

    def write(self, about: About, *, licence: str | None, citation: Path, bibtex: Path, readme: Path) -> None:
        """Write CITATION.md, references.bib, and README.md, which says what lies where in the results.

        Parameters
        ----------
        about : About
        licence : str, optional
            Of the dataset that the results are of, as it states it.
        citation, bibtex, readme : paths
        """
        for path, text in (
            (citation, render("citation.md.j2", method=self, about=about)),
            (bibtex, as_bibtex(self.references)),
            (readme, render("readme.md.j2", about=about, licence=licence)),
        ):
            Path(path).write_text(text, encoding="utf-8")


def describe_program(settings_hash: str) -> About:
    """Say which mettrail runs here, with settings of this hash."""
    commit = provenance.find_commit(project.root())
    return About(__version__, commit, provenance.find_container(), settings_hash)


def describe_method(
    ran: Ran,
    settings: Mapping[str, Any],
    about: About,
    *,
    references: str | Path,
    any_velocity: bool,
    any_treated: bool,
) -> Method:
    """Describe a run.

    Parameters
    ----------
    ran : Ran
    settings : mapping
        As they were used.
    about : About
    references : path
        BibTeX of all that may be cited.
    any_velocity, any_treated : bool
        Whether the tables have a brain metastasis velocity, and a cumulative incidence of local failure.

    Raises
    ------
    KeyError
        The text cites what is not among the references.
    """
    tools = {name: _describe_tool(name, _PACKAGES[name]) for name in _list_tools(ran)}
    text = render(
        "method.md.j2",
        ran=ran,
        settings=settings,
        about=about,
        python=platform.python_version(),
        version={name: tool.version for name, tool in tools.items()},
        any_velocity=any_velocity,
        any_treated=any_treated,
        edge_reach_mm=EDGE_REACH_MM,
    )
    blocks = [" ".join(block.split()) for block in text.split("\n\n") if block.strip()]
    # What templates put together has spaces where their lines end.
    paragraphs = tuple(re.sub(r" (?=[.,;:)])", "", block) for block in blocks)
    chosen = choose_references(text, read_references(references))
    return Method(paragraphs, ran.networks, tuple(tools.values()), tuple(chosen))


def _list_tools(ran: Ran) -> list[str]:
    """Name the tools that ran, in the order of `_PACKAGES`."""
    brains = {*ran.brains, *ran.compared}
    learned = bool(ran.networks)
    used = {
        "SimpleITK": bool(ran.brains),
        "deepbet": "deepbet" in brains,
        "HD-BET": "hd-bet" in brains,
        "nnU-Net": learned or "hd-bet" in brains,
        "PyTorch": learned or bool(brains & {"deepbet", "hd-bet"}),
        "Snakemake": True,
        **{name: engine in ran.engines for engine, name in _ENGINES.items()},
    }
    return [name for name in _PACKAGES if used[name]]


def _describe_tool(name: str, package: str) -> Tool:
    found = metadata(package)
    stated = found.get_all("Classifier") or []
    licences = [line.split(" :: ")[-1] for line in stated if line.startswith("License ::")]
    # Some packages put the whole text of their licence where its name belongs.
    short = [text for text in (found["License-Expression"], found["License"]) if text and len(text.strip()) < 30]
    return Tool(name, found["Version"], (found["License-Expression"] or (short or licences or [""])[0]).strip())
