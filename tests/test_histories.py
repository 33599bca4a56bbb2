"""Every patient history in `tests/histories` against the library: what people expected is what comes out.

Diameters of `response/` go straight to the response criteria, spheres of `contact/` through finding, matching and
comparing lesions. The files are the truth; their format is in `tests/histories/README.md`.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from agreement import follow, shared_voxels
from conftest import ROOT, settings_of
from mettrail.response import assessment, course
from mettrail.response.rules import Rules
from mettrail.tracking import chords, lesions
from oracle import patients

FOLDER = ROOT / "tests" / "histories"
FACTS = (
    "treatment_start_day", "treatment_type", "immunotherapy_start_day", "death_day", "last_contact_day",
)  # fmt: skip
REQUIRED = ("title", "source", "why")
CLINIC = (
    "dexamethasone_equiv_mg_per_day", "steroid_status", "clinical_status", "clinical_tumour_related", "kps", "ecog",
)  # fmt: skip
SPHERE = ("session", "day", "lesion", "x", "y", "z", "diameter")
# What the specification calls a setting, where the configuration has a longer name.
SETTINGS = {
    "baseline_window_d": "baseline_window_days", "confirm_d": "confirm_days", "sd_min_d": "sd_min_days",
    "ld_min": "ld_min_mm", "perp_min": "perp_min_mm",
}  # fmt: skip
NOTHING_TO_JUDGE = "NA"  # the specification's word for a response without lesions; tables have n/a
EXPECTATION = re.compile(r"(?P<column>\w+)(?P<how>[=~!])(?P<value>.*)")
MARGIN_VOX = 6  # of empty space around all spheres: no lesion touches the edge of the image


class FormatError(ValueError):
    """A file of another format than the README has it."""


# --- Reading -------------------------------------------------------------------------------------------------------


@dataclass
class History:
    """One file: what is given, and what is expected.

    `sessions` are in order; `cells` hold, per session, the cell of each lesion (response) or its spheres (contact).
    """

    name: str
    why: str
    facts: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    overrides: list = field(default_factory=list)
    treatments: list = field(default_factory=list)
    readings: list = field(default_factory=list)
    spacing: tuple = (1.0, 1.0, 1.0)
    sessions: list = field(default_factory=list)
    cells: dict = field(default_factory=dict)
    expected: list = field(default_factory=list)  # ((table, key …), column, how, value)
    identity: list = field(default_factory=list)  # groups of lesions
    new: dict = field(default_factory=dict)  # session: lesions
    status: list = field(default_factory=list)  # session, lesion, status

    @property
    def is_contact(self):
        return "lesion" in self.sessions[0]

    @property
    def n_expected(self):
        return len(self.expected) + len(self.identity) + len(self.new) + len(self.status)


def read_history(path: Path) -> History:
    lines = path.read_text(encoding="utf-8").splitlines()
    said = [line.removeprefix("#").strip().split(": ", 1) for line in lines if line.startswith("#")]
    table = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    if any(len(pair) != 2 for pair in said) or len({len(row) for row in table}) != 1:
        raise FormatError("header lines are `# key: value`, rows are as long as their header")
    found = {name: [value for key, value in said if key == name] for name in REQUIRED}
    if any(len(values) != 1 for values in found.values()):
        raise FormatError(f"one each of {', '.join(REQUIRED)}")
    history = History(path.name, found["why"][0])
    for key, value in said:
        _read_header(history, key, value)
    rows = [dict(zip(table[0], row, strict=True)) for row in table[1:]]
    _read_spheres(history, rows) if "lesion" in table[0] else _read_diameters(history, rows, table[0])
    names = [session["session"] for session in history.sessions]
    asked = {key[1] for key, *_ in history.expected if key[0] == "session"} | {s for s, *_ in history.status}
    unknown = (asked | set(history.new)) - set(names)
    if unknown or len(set(names)) != len(names):
        raise FormatError(f"sessions {', '.join(sorted(unknown)) or names}")
    return history


def _read_header(history, key, value):
    if key in REQUIRED:
        return
    if key in FACTS:
        history.facts[key] = value
    elif key == "settings":
        for part in value.split(";"):
            name, given = part.split("=")
            block, name = name.strip().split(".")
            name = SETTINGS.get(name, name)
            if name not in settings_of(block):
                raise FormatError(f"setting {block}.{name}")
            history.settings.setdefault(block, {})[name] = yaml.safe_load(given)
    elif key in ("override", "treatment"):
        getattr(history, f"{key}s").append(dict(part.strip().split("=", 1) for part in value.split(";")))
    elif key == "reading":
        history.readings.append(value)
    elif key == "spacing":
        history.spacing = tuple(map(float, value.split("x")))
    elif key == "expect patient":
        _expect(history, ("patient",), value)
    elif key == "expect treated":
        who, value = value.split(":", 1)
        _expect(history, ("treated", *who.split()), value)
    elif key.startswith("expect session "):
        _expect(history, ("session", key.split()[2]), value)
    elif key == "expect identity":
        history.identity.append(_listed(value))
    elif key.startswith("expect new "):
        history.new[key.split()[2]] = _listed(value)
    elif key.startswith("expect lesions "):
        history.status += [(key.split()[2], *part.split("=")) for part in _listed(value)]
    else:
        raise FormatError(f"header {key}")


def _listed(text):
    return [part.strip() for part in text.split(",")]


def _expect(history, key, text):
    """Read expectations; a part that is none belongs to the one before."""
    for part in text.split(";"):
        found = EXPECTATION.fullmatch(part.strip())
        if found:
            history.expected.append((key, found["column"], found["how"], found["value"]))
        elif history.expected and history.expected[-1][0] == key:
            *before, value = history.expected.pop()
            history.expected.append((*before, f"{value};{part.strip()}"))
        else:
            raise FormatError(f"expectation {part}")


def _read_diameters(history, rows, columns):
    given = [c for c in columns if not c.startswith("expect:")]
    named = [c for c in given if re.fullmatch("[A-Z]", c)]
    strange = set(given) - {"session", "day", "evaluable", "slice_spacing_mm", *CLINIC, *named}
    if strange or not named or given[:2] != ["session", "day"]:
        raise FormatError(f"columns {', '.join(strange) or columns}")
    for row in rows:
        history.sessions.append({name: row[name] for name in given if name not in named})
        history.cells[row["session"]] = {name: _read_cell(row[name]) for name in named}
        for column in columns[len(given) :]:
            if row[column].strip():
                *lesion, name = column.removeprefix("expect:").split(".")
                key = ("lesion", lesion[0], row["session"]) if lesion else ("session", row["session"])
                how = name[-1] if name[-1] in "~!" else "="
                history.expected.append((key, name.rstrip("~!"), how, row[column].strip()))


def _read_cell(text):
    """Return the status of a lesion, the diameters of its components in mm, and what else its cell says."""
    first, *words = text.split()
    said = {"words": set(), "status": "present", "diameters": [], "into": None}
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("border", "candidate", "miss", "nonenhancing") and not equals:
            said["words"].add(name)
        elif name in ("p", "n", "v", "et"):
            said[name] = float(value)
        elif name == "box":
            said["box"] = [int(side) for side in value.split("x")]
        else:
            raise FormatError(f"cell {text}")
    if first in ("-", "0", "ne") or first.startswith(">"):
        said["status"] = {"-": "unborn", "0": "absent", "ne": "not_evaluable"}.get(first, "merged")
        said["into"] = first.removeprefix(">") if first.startswith(">") else None
    else:
        said["diameters"] = [float(part) for part in first.split("+")]
    return said


def _read_spheres(history, rows):
    if not rows or tuple(rows[0]) != SPHERE or history.treatments or history.overrides or history.settings:
        raise FormatError(f"columns {', '.join(SPHERE)}, and nothing else is given")
    for row in rows:
        if row["session"] not in history.cells:
            history.sessions.append({name: row[name] for name in ("session", "day", "lesion")})
            history.cells[row["session"]] = []
        numbers = [float(row[name]) for name in SPHERE[3:]]
        history.cells[row["session"]].append((row["lesion"], np.array(numbers[:3]), numbers[3]))


# --- Response histories --------------------------------------------------------------------------------------------


def assess(history: History) -> assessment.Assessment:
    participant = {"participant_id": "sub-1"} | {name: history.facts.get(name, "n/a") for name in FACTS}
    overrides = [
        {"session_id": f"ses-{o['session']}", "track_id": o["lesion"], "field": o["field"], "value": o["value"]}
        for o in history.overrides
    ]
    given = [
        {"treatment_id": t["id"], "session_id": "n/a", "isodose_pct": "n/a", "where": history.name}
        | {name: t.get(name, "n/a") for name in ("type", "day", "target", "dose_gy", "fractions")}
        for t in history.treatments
    ]
    return assessment.assess(
        assessment.Matched(_lesion_rows(history), _session_rows(history), comparisons=None, maps={}),
        assessment.Said(participant, given, pd.DataFrame(overrides) if overrides else None, history.name, frozen=None),
        rules=Rules.of(**{name: settings_of(name) | history.settings.get(name, {}) for name in ("rano", "volume")}),
    )


def _session_rows(history):
    rows = []
    for number, given in enumerate(history.sessions, start=1):
        evaluable = given.get("evaluable", "true") == "true"
        row = {
            "participant_id": "sub-1",
            "session_id": f"ses-{given['session']}",
            "order": number,
            "days": math.nan if given["day"] == "n/a" else float(given["day"]),
            "evaluable": evaluable,
            "ne_reason": "n/a" if evaluable else "image_quality",
            "slice_spacing_mm": _spacing_mm(given),
            "flags": "n/a",
        }
        rows.append(row | {name: given[name] for name in CLINIC if given.get(name, "n/a") not in ("", "n/a")})
    return pd.DataFrame(rows)


def _spacing_mm(session):
    return float(session.get("slice_spacing_mm") or 1)


def _lesion_rows(history):
    """Rows of the matching: one per session and lesion from its first on."""
    rows, before = [], {}
    for session in history.sessions:
        cells = history.cells[session["session"]]
        carriers = {cell["into"] for cell in cells.values()} - {None}
        evaluable = session.get("evaluable", "true") == "true"
        for lesion, cell in cells.items():
            if cell["status"] == "unborn" and lesion not in before:
                continue
            row = dict.fromkeys((*course.NEEDED, "certainty"))
            row |= {"session_id": f"ses-{session['session']}", "track_id": lesion, "slice_spacing_mm": None}
            row |= {
                "status": cell["status"] if evaluable else "not_evaluable",
                "probable_missed_detection": "miss" in cell["words"],
            }
            row |= {"event": _event(cell, before.get(lesion), rows)}
            if row["status"] == "present":
                row |= _measured(cell, _spacing_mm(session))
                flags = (row["flags"] or "").split(";") + ["coalesced"] * (lesion in carriers)
                row["flags"] = ";".join(filter(None, flags)) or None
            elif row["status"] == "merged":
                row |= {"merged_into": cell["into"], "flags": "coalesced"}
            before[lesion] = cell
            rows.append(row)
    return pd.DataFrame(rows)


def _event(cell, last, rows):
    if cell["status"] != "present":
        return {"merged": "merged_into"}.get(cell["status"], cell["status"])
    if last is None:
        return "new" if rows and any(row["session_id"] != rows[-1]["session_id"] for row in rows) else "baseline"
    if last["status"] == "absent":
        return "reappeared"
    return "split" if len(cell["diameters"]) > max(1, len(last["diameters"])) else "persist"


def _measured(cell, slice_mm):
    """Sizes of a lesion as `measure_instances` and `summarise_tracks` would give them."""
    keep, birth = (settings_of("instances")[name] for name in ("keep_mm3", "birth_mm3"))
    parts = sorted(cell["diameters"], reverse=True)
    volumes = [math.pi / 6 * mm**3 for mm in parts]
    whole = 1000 * cell["v"] if "v" in cell else sum(volumes)
    enhancing = 0.0 if "nonenhancing" in cell["words"] else whole * cell.get("et", 1.0)
    box = cell.get("box", [max(1, round(parts[0]))] * 3)
    at_edge = "border" in cell["words"]
    flags = {
        "thick_slice": slice_mm > lesions.THICK_SLICE_MM,
        "cystic_only": enhancing < settings_of("measure")["cystic_max_enhancing"] * whole - chords.TOLERANCE,
        "fov_edge": at_edge,
        "probable_missed_detection": "miss" in cell["words"],
    }
    return {
        "n_components": len(parts),
        "ld_mm": parts[0],
        "ld_components_mm": sum(mm for mm, mm3 in zip(parts, volumes) if mm3 >= birth) or parts[0],
        "perp_mm": cell.get("p", parts[0]),
        "n_slices": cell.get("n", max(2, round(parts[0] / slice_mm))),
        "vol_wl_mm3": whole,
        "vol_et_mm3": enhancing,
        "vol_nc_mm3": whole - enhancing,
        "vol_ed_mm3": 0.0,
        "enhancing": enhancing > keep,
        "touches_border": at_edge,
        "slice_spacing_mm": slice_mm,
        "certainty": "candidate" if "candidate" in cell["words"] else "confirmed",
        "match_method": "overlap",
        "match_score": 1.0,
        "flags": ";".join(name for name, holds in flags.items() if holds) or None,
        **{f"bbox_{axis}_vox": side for axis, side in zip("xyz", box, strict=True)},
    }


# --- Contact histories ---------------------------------------------------------------------------------------------


def draw(history: History) -> tuple[patients.Patient, dict[str, int]]:
    """Put spheres on a grid that is just large enough; a voxel of several belongs to the one it is deepest in."""
    spacing = np.array(history.spacing)
    spheres = [sphere for cells in history.cells.values() for sphere in cells]
    low = np.min([centre - mm / 2 for _, centre, mm in spheres], axis=0)
    high = np.max([centre + mm / 2 for _, centre, mm in spheres], axis=0)
    first = np.floor(low / spacing).astype(int) - MARGIN_VOX
    shape = np.ceil(high / spacing).astype(int) + MARGIN_VOX + 1 - first
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = first * spacing
    points = np.moveaxis(np.indices(shape), 0, -1) * spacing + affine[:3, 3]
    numbers = {lesion: n for n, lesion in enumerate(sorted({lesion for lesion, *_ in spheres}), start=1)}
    sessions = []
    for given in history.sessions:
        truth, depth = np.zeros(shape, np.int32), np.ones(shape)
        for lesion, centre, mm in history.cells[given["session"]]:
            reach = np.linalg.norm(points - centre, axis=-1) / (mm / 2)
            inside = (reach <= 1 + 1e-9) & ((reach < depth) | (truth == 0))
            truth[inside], depth[inside] = numbers[lesion], reach[inside]
        day, tissue = float(given["day"]), (truth > 0).astype(np.uint8)
        clinic = (None, None, None)
        sessions.append(
            patients.Session(f"ses-{given['session']}", day, True, *clinic, affine, tissue, truth, np.eye(4))
        )
    participant = {"participant_id": "sub-1"} | {name: history.facts.get(name) for name in FACTS}
    return patients.Patient(participant, sessions, [], [], {}, None), numbers


# --- Comparing -----------------------------------------------------------------------------------------------------


def judge_cells(history, tables) -> list[str]:
    """Say which cells are other than expected. `tables`: cells by key, as the expectations name them."""
    wrong = []
    for key, column, how, value in history.expected:
        row = tables.get(key)
        found = "no such row" if row is None else row.get(column, "no such column")
        if row is None or column not in row or not _holds(found, how, value):
            wrong.append(f"{' '.join(key)}, {column}: expected {how} {value}, found {_text(found)}")
    return wrong


def _holds(found, how, value):
    found, value = _text(found), "n/a" if value == NOTHING_TO_JUDGE else value
    if how in "~!":
        return (value in found.split(";")) == (how == "~")
    try:
        return abs(float(found) - float(value)) <= 0.01 + 1e-9
    except ValueError:
        return found == value


def _text(value):
    if value is None or value is pd.NA or value != value:
        return "n/a"
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    return str(value).removeprefix("ses-")


def as_cells(lesion_table, session_table, patient, treated=None):
    found = {("patient",): dict(patient)}
    found |= {("session", row["session_id"][4:]): row for row in session_table.to_dict("records")}
    found |= {("lesion", r["track_id"], r["session_id"][4:]): r for r in lesion_table.to_dict("records")}
    for row in [] if treated is None else treated.to_dict("records"):
        found["treated", row["treatment_id"], row["track_id"]] = row
    return found


def judge_tracks(history, patient, numbers, found) -> list[str]:
    """Say where lesions have not the identities, events or status that they must have."""
    names = [session["session"] for session in history.sessions]
    lesion_of = {n: lesion for lesion, n in numbers.items()}
    tracks = {(names[t], lesion_of[n]): track for t, n, track in shared_voxels(patient, found)}
    seen = {
        lesion: {name: tracks.get((name, lesion), "none") for name in names if (name, lesion) in _there(history)}
        for lesion in numbers
    }
    wrong = []
    for group in history.identity:
        for lesion in group:
            if len(set(seen[lesion].values())) != 1:
                wrong.append(f"lesion {lesion}: expected one track, found {seen[lesion]}")
        firsts = [next(iter(seen[lesion].values())) for lesion in group]
        if len(set(firsts)) != len(group):
            wrong.append(f"lesions {', '.join(group)}: expected tracks of their own, found {firsts}")
    rows = {(row["session_id"][4:], row["track_id"]): row for row in found.lesions.to_dict("records")}
    for session, new in history.new.items():
        wanted = {seen[lesion].get(session) for lesion in new}
        born = {track for (name, track), row in rows.items() if name == session and row["event"] == "new"}
        if born != wanted or len(wanted) != len(new):
            here = {lesion: own.get(session) for lesion, own in seen.items()}
            wrong.append(f"session {session}, new: expected {', '.join(new)} of {here}, found {sorted(born) or 'none'}")
    for session, lesion, status in history.status:
        # Where it is not there, it is the track that it was when it was there.
        of = seen[lesion].get(session) or next(iter(seen[lesion].values()))
        is_now = rows.get((session, of), {"status": "no row"})["status"]
        if is_now != status:
            wrong.append(f"session {session}, lesion {lesion} ({of}), status: expected {status}, found {is_now}")
    return wrong


def _there(history):
    return {(session, lesion) for session, cells in history.cells.items() for lesion, *_ in cells}


def _require(history, wrong):
    assert not wrong, "\n  ".join([history.name, *wrong, f"why: {history.why}"])


def _files(folder):
    return [pytest.param(path, id=path.name) for path in sorted((FOLDER / folder).glob("*.tsv"))]


@pytest.mark.parametrize("path", _files("response"))
def test_response_history(path):
    history = read_history(path)
    assert history.n_expected and not history.readings
    found = assess(history)
    tables = as_cells(found.lesions, found.sessions, found.patients.iloc[0], found.treated)
    _require(history, judge_cells(history, tables))


@pytest.mark.parametrize("path", _files("contact"))
def test_contact_history(path):
    history = read_history(path)
    assert history.n_expected and not history.readings
    patient, numbers = draw(history)
    found = follow(patient)
    wrong = judge_cells(history, as_cells(found.lesions, found.sessions, found.patient))
    _require(history, wrong + judge_tracks(history, patient, numbers, found))


@pytest.mark.parametrize("path", _files("open"))
def test_open_history_has_the_format(path):
    history = read_history(path)
    assert history.readings and not history.n_expected
