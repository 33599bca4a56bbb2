"""The works that a run cites: read from ``resources/references.bib``, where each stands once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mettrail.errors import InputError
from mettrail.reasons import Reason

_ENTRY = re.compile(r"^@(\w+)\{(\w+),\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"  (\w+) = \{(.*)\},\n")
# How the method text cites, as pandoc reads it: [@Lin2015] or [@Lin2015; @Okada2015].
CITATION = re.compile(r"\[(@\w+(?:; @\w+)*)\]")


@dataclass(frozen=True)
class Reference:
    """A work, as BibTeX has it: ``kind`` is article, inproceedings or software; ``bibtex`` its entry as it was read."""

    key: str
    kind: str
    fields: Mapping[str, str]
    bibtex: str

    @property
    def label(self) -> str:
        """Authors and year: ``Lin et al. 2015``."""
        names = [name.split(",")[0] for name in self._text("author").split(" and ")]
        who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
        return who if self.kind == "software" else f"{who} {self._text('year')}"

    @property
    def title(self) -> str:
        """The title, without BibTeX's braces."""
        return self._text("title")

    @property
    def place(self) -> str:
        """Where it was published: ``The Lancet Oncology 16:e270–e278``; of software, its version and licence."""
        if self.kind == "software":
            return f"version {self._text('version')}, {self._text('license')}"
        journal = self._text("journal") or self._text("booktitle")
        return ":".join(part for part in (f"{journal} {self._text('volume')}", self._text("pages")) if part)

    @property
    def doi(self) -> str:
        """Its DOI; empty where it has none."""
        return self.fields.get("doi", "")

    @property
    def address(self) -> str:
        """Its DOI as an address, or another; empty where there is none."""
        return f"https://doi.org/{self.doi}" if self.doi else self.fields.get("url", "")

    def _text(self, name: str) -> str:
        return self.fields.get(name, "").replace("\\&", "&").replace("--", "–").translate({123: None, 125: None})


def read_references(path: str | Path) -> dict[str, Reference]:
    """Read a BibTeX file: entries of one field a line, each value in braces, lines of comment between them.

    Returns
    -------
    dict of Reference
        By key, in the order of the file.

    Raises
    ------
    InputError
        Something is no such entry, or a key stands twice.
    """
    text = Path(path).read_text(encoding="utf-8")
    found = {}
    for kind, key, body in _ENTRY.findall(text):
        lacking = _FIELD.sub("", body)
        if lacking or key in found:
            raise _bad(path, f"{key} twice" if key in found else f"{key}: {lacking.strip()}")
        found[key] = Reference(key, kind, dict(_FIELD.findall(body)), f"@{kind}{{{key},\n{body}}}\n")
    rest = [line for line in _ENTRY.sub("", text).splitlines() if line.strip() and not line.startswith("%")]
    if rest:
        raise _bad(path, rest[0])
    return found


def _bad(path: str | Path, found: str) -> InputError:
    return InputError(
        str(path),
        found=found,
        expected="BibTeX entries, each key once, one `name = {value},` a line",
        advice="Correct the file.",
        reason=Reason.BAD_TABLE,
    )


def keys_in(text: str) -> list[str]:
    """Return the keys that a text cites, each once, in order.

    Examples
    --------
    >>> keys_in("RANO-BM [@Lin2015]; RECIST [@Eisenhauer2009; @Lin2015].")
    ['Lin2015', 'Eisenhauer2009']
    """
    return list(dict.fromkeys(key for group in CITATION.findall(text) for key in group[1:].split("; @")))


def choose_references(text: str, known: Mapping[str, Reference]) -> list[Reference]:
    """Return the works that a text cites, in order.

    Raises
    ------
    KeyError
        A key that is not known.
    """
    return [known[key] for key in keys_in(text)]


def as_bibtex(chosen: Iterable[Reference]) -> str:
    """Write works as a BibTeX file."""
    return "\n".join(reference.bibtex for reference in chosen)
