"""What the cells of people's tables may say: words, numbers and dates, in one list that is also their documentation.

Tables are judged once, when the dataset is indexed. What comes out is canonical text that later stages compare and
convert without a look at how people spell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mettrail.schema import MISSING

# How people and programs write that something is not known.
MISSING_WORDS = ("n/a", "na", "nan", "nat", "")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Day, clock, offset.
DATE = re.compile(r"(\d{4}-\d\d-\d\d|\d{8})(?:[T ]([\d:.,]+) ?(?:Z|[+-]\d\d(?::?\d\d)?)?|Z)?", re.ASCII)
BOOLEAN = {"true": ("yes", "y", "t", "1", "1.0"), "false": ("no", "n", "f", "0", "0.0")}


class UnknownWordError(ValueError):
    """A word that is in no vocabulary: nobody can tell what it does to the response, so that it must not be ignored."""


@dataclass(frozen=True)
class Cell:
    """What a column may hold.

    Parameters
    ----------
    table : str
        ``sessions``, ``participants`` or ``treatments``.
    about : str
        What it is for.
    kind : str
        ``word``, ``words`` (one or several), ``number``, ``count`` (a whole number) or ``date``.
    words : dict
        Canonical word to its synonyms.
    least, most : float
        Limits of a number, both included.
    """

    table: str
    about: str
    kind: str
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    least: float = -math.inf
    most: float = math.inf


# Treatments as both tables that name them may write them.
_TREATMENTS = {
    "wbrt": ("whole brain radiotherapy", "whole brain radiation", "whole brain radiation therapy",
             "whole brain irradiation", "wbi"),
    "surgery": ("resection", "surgical resection", "craniotomy", "operation"),
    "chemo": ("chemotherapy",),
    "targeted": ("targeted therapy", "targeted treatment", "tki"),
    "immunotherapy": ("immuno", "immune therapy", "checkpoint inhibitor", "checkpoint inhibitors",
                      "immune checkpoint inhibitor", "immune checkpoint inhibitors", "ici"),
}  # fmt: skip
COLUMNS = {
    "acq_time": Cell("sessions", "when the scan was made: the order of visits", "date"),
    "days_from_baseline": Cell("sessions", "the same in days, where there are no dates", "number"),
    "days_from_treatment": Cell("sessions", "the same in days since treatment began", "number"),
    "image_quality": Cell(
        "sessions", "`fail`: the session is not evaluable", "word",
        {
            "pass": ("passed", "good", "excellent", "ok", "okay", "fine", "fair", "moderate", "acceptable", "adequate",
                     "sufficient", "usable"),
            "fail": ("failed", "poor", "bad", "unacceptable", "inadequate", "insufficient", "unusable",
                     "non diagnostic", "nondiagnostic", "rejected"),
        },
    ),
    "contrast": Cell(
        "sessions", "`false`: no contrast agent was given; the session is not evaluable", "word",
        {
            "true": (*BOOLEAN["true"], "given", "with"),
            "false": (*BOOLEAN["false"], "not given", "none", "without"),
        },
    ),
    "dexamethasone_equiv_mg_per_day": Cell("sessions", "steroid dose, mg per day", "number", least=0),
    "steroid_status": Cell(
        "sessions", "steroids compared to baseline; wins over the dose", "word",
        {
            "none": ("no", "off", "without"),
            "stable": ("unchanged", "same"),
            "decreased": ("decrease", "decreasing", "reduced", "lower", "tapered", "tapering"),
            "increased": ("increase", "increasing", "higher", "raised"),
            "unknown": (),
        },
    ),
    "clinical_status": Cell(
        "sessions", "compared to the visit before; wins over scores", "word",
        {
            "improved": ("better", "improving", "improvement"),
            "stable": ("unchanged", "same"),
            "worse": ("worsened", "worsening", "deteriorated", "deteriorating", "deterioration", "declined"),
            "unknown": (),
        },
    ),
    "kps": Cell("sessions", "Karnofsky score", "number", least=0, most=100),
    "ecog": Cell("sessions", "ECOG score", "number", least=0, most=5),
    "clinical_tumour_related": Cell(
        "sessions", "`false`: that the patient is worse has another cause, and counts as stable", "word", BOOLEAN
    ),
    "treatment_start_date": Cell("participants", "when treatment began: sets the baseline", "date"),
    "treatment_start_day": Cell("participants", "the same in days, as those of the visits", "number"),
    "treatment_type": Cell(
        "participants", "`immunotherapy`: progression must be confirmed (iRANO)", "words",
        {
            "srs": ("radiosurgery", "stereotactic radiosurgery", "gamma knife", "gammaknife", "cyberknife", "srt",
                    "fsrt", "hfsrt", "stereotactic radiotherapy"),
            **_TREATMENTS,
            "other": ("radiotherapy", "rt", "radiation", "hormone therapy", "hormonal therapy", "steroids",
                      "best supportive care"),
            "none": ("no", "untreated", "observation"),
        },
    ),
    "immunotherapy_start_day": Cell("participants", "when immunotherapy began, as those of the visits", "number"),
    "death_date": Cell("participants", "when the patient died: an outcome", "date"),
    "death_day": Cell("participants", "the same in days, as those of the visits", "number"),
    "last_contact_date": Cell("participants", "when the patient was last known to be alive", "date"),
    "last_contact_day": Cell("participants", "the same in days, as those of the visits", "number"),
    "leptomeningeal_date": Cell("participants", "when leptomeningeal disease was found: an outcome", "date"),
    "leptomeningeal_day": Cell("participants", "the same in days, as those of the visits", "number"),
    "split": Cell(
        "participants", "`test`: kept out of training", "word",
        {"train": ("training",), "test": ("testing",), "validation": ("val", "valid", "dev")},
    ),
    "type": Cell(
        "treatments", "what was done", "word",
        {
            "srs": ("radiosurgery", "stereotactic radiosurgery", "gamma knife", "gammaknife", "cyberknife"),
            "fsrt": ("srt", "hfsrt", "stereotactic radiotherapy", "fractionated stereotactic radiotherapy"),
            **_TREATMENTS,
            "systemic": ("systemic therapy", "systemic treatment", "hormone therapy", "hormonal therapy"),
        },
    ),
    "date": Cell("treatments", "when it was done, or its first fraction given", "date"),
    "day": Cell("treatments", "the same in days, as those of the visits", "number"),
    "dose_gy": Cell("treatments", "total dose", "number", least=0),
    "fractions": Cell("treatments", "number of fractions", "count", least=1),
    "isodose_pct": Cell("treatments", "isodose the dose was prescribed to, %", "number", least=0, most=100),
}  # fmt: skip


def of_table(table: str) -> list[str]:
    """Return the columns that are read of a table, in order."""
    return [name for name, cell in COLUMNS.items() if cell.table == table]


def is_missing(text: str) -> bool:
    """Whether a cell says that something is not known."""
    return text.strip().lower() in MISSING_WORDS


def read_cell(column: str, text: str) -> str:
    """Return the canonical text of a cell: a word of the vocabulary, a number, an ISO date or ``n/a``.

    Columns that are not in the vocabulary are left as they are.

    Raises
    ------
    UnknownWordError
        A word that is not in the list; its text says what is.
    ValueError
        What is no number or date, or out of range; its text says what was expected.
    """
    if is_missing(text):
        return MISSING
    cell = COLUMNS.get(column)
    if cell is None:
        return text
    if cell.kind == "date":
        return read_date(text).isoformat()
    if cell.kind == "number":
        return read_number(text, least=cell.least, most=cell.most)
    if cell.kind == "count":
        return read_count(text, least=cell.least)
    # None of the words holds one of the signs that stand between several; " and " serves, too.
    parts = re.split(r"[;+/,&|]|\band\b", text) if cell.kind == "words" else [text]
    words = [read_word(part, cell.words) for part in parts if part.strip()]
    return ";".join(dict.fromkeys(words)) or MISSING


def read_word(text: str, words: Mapping[str, Iterable[str]] = BOOLEAN) -> str:
    """Return the canonical word of a text, without regard to case, hyphens and the number of blanks."""
    folded = _fold(text)
    for word, synonyms in words.items():
        if folded == word or folded in synonyms:
            return word
    raise UnknownWordError(describe_words(words))


def read_number(text: str, *, least: float = -math.inf, most: float = math.inf) -> str:
    """Return the text of a finite number within limits (both included)."""
    if NUMBER.fullmatch(text.strip()) and math.isfinite(float(text)) and least <= float(text) <= most:
        return text.strip()
    limits = "" if math.isinf(least) else f", {least:g} or more" if math.isinf(most) else f" from {least:g} to {most:g}"
    raise ValueError(f"a number{limits}")


def read_count(text: str, *, least: float) -> str:
    """Return the text of a whole number; ``5.0``, as spreadsheets write it, is 5."""
    try:
        number = float(read_number(text, least=least))
    except ValueError:
        number = math.nan
    if number != number or number != int(number):
        raise ValueError(f"a whole number, {least:g} or more")
    return str(int(number))


def read_date(text: str) -> datetime:
    """Return an ISO 8601 date as the clock on the wall showed it: an offset is left out, and shifts nothing."""
    found = DATE.fullmatch(text.strip().upper())
    try:
        if found:
            return datetime.fromisoformat(f"{found[1]} {found[2] or '00:00'}")
    except ValueError:
        pass
    raise ValueError("an ISO 8601 date, e.g. 2019-03-12 or 2019-03-12T09:30:00")


def describe_words(words: Mapping[str, Iterable[str]]) -> str:
    """List words with their synonyms."""
    return ", ".join(f"{word} ({', '.join(same)})" if same else word for word, same in words.items())


def markdown_table() -> str:
    """Return the vocabulary as a table for the documentation."""
    lines = ["| table | column | holds | what for |", "| --- | --- | --- | --- |"]
    for name, cell in COLUMNS.items():
        if cell.kind == "date":
            holds = "an ISO 8601 date, with or without time"
        elif cell.kind in ("number", "count"):
            limits = "" if math.isinf(cell.least) else f", at least {cell.least:g}"
            kind = "a whole number" if cell.kind == "count" else "a number"
            holds = f"{kind}{limits}" + ("" if math.isinf(cell.most) else f" and at most {cell.most:g}")
        else:
            holds = "; ".join(
                f"`{word}`" + (f" ({', '.join(same)})" if same else "") for word, same in cell.words.items()
            )
            holds += " – one, or several with one of `;+/,&` between" if cell.kind == "words" else ""
        lines.append(f"| {cell.table} | `{name}` | {holds} | {cell.about} |")
    return "\n".join(lines)


def renew_markdown(text: str) -> str:
    """Return a text with the table between ``<!-- vocabulary -->`` and ``<!-- end -->`` made anew."""
    block = f"<!-- vocabulary -->\n\n{markdown_table()}\n\n<!-- end -->"
    return re.sub("<!-- vocabulary -->.*?<!-- end -->", lambda _: block, text, flags=re.DOTALL)


def _fold(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text.lower()).strip()
