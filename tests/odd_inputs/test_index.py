"""Every row of the collection through the index; settings and places through what reads them."""

import contextlib
import copy
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
import warm
import yaml
from mettrail import cohort, settings
from mettrail.errors import InputError

from odd_inputs import masks, places, scans, tables, where
from odd_inputs import settings as given
from odd_inputs.making import CE, Cohort, fresh, listing, make_undisturbed

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow" / "schemas" / "config.yaml"
ROWS = [*where.ROWS, *tables.ROWS, *scans.ROWS, *masks.ROWS]
FILES = ["reference", "T1w", "T2w", "FLAIR", "labels"]
REMARKS = ["flags", "detail"]


def settings_of(c, with_masks):
    own = {
        "labels_folder": str(c.masks) if with_masks else "",
        "labels_sessions": [],
        "labels_scheme": "mettrail",
        "participants": [],
        "sessions": [],
        "exclude": [],
        "edits": "",
    }
    return {"reference": CE, "sequences": ["T1w", "T2w", "FLAIR"], **own, **c.settings}


def index(c, with_masks=False, keep=True):
    return cohort.load_cohort(c.bids, c.out, keep=keep, **settings_of(c, with_masks))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The cohort that is copied for every row, and what is found in it without and with masks."""
    root = make_undisturbed(tmp_path_factory.mktemp("undisturbed"))
    found = {}
    for with_masks in (False, True):
        c = Cohort(root)
        c.out = root / f"out{with_masks}"
        found[with_masks] = index(c, with_masks)
    return root, found


def same(a, b):
    if a == b:
        return True
    try:
        return float(a) == float(b)
    except ValueError:
        return False


class Answer:
    """What came out of a row, and what an outcome says should have."""

    def __init__(self, row, base, found, error):
        self.row, self.base, self.found, self.error = row, base, found, error

    def sessions(self, sub, found=None):
        table = (found or self.found).sessions
        rows = table[table["sub"] == sub].astype(str).to_dict("records")
        # Masks lie outside the dataset: given or not is what counts.
        return {r["ses"]: r | {"labels": "n/a" if r["labels"] == "n/a" else "given"} for r in rows}

    def said(self, who):
        texts = [f"{r['detail']} {r['flags']}" for sub in who for r in self.sessions(sub).values()]
        return "\n".join(texts + [" ".join(map(str, entry.values())) for entry in self.found.not_used])

    def common(self, outcome):
        """What holds whatever comes out: nobody else is touched."""
        subs = set(self.found.sessions["sub"])
        for sub in set(self.base.sessions["sub"]) - set(outcome.who) - set(self.row.gone):
            if sub not in subs or self.sessions(sub) != self.sessions(sub, self.base):
                yield f"sub-{sub} is not as in the undisturbed cohort: {self.sessions(sub)}"
        for sub in subs - set(self.base.sessions["sub"]) - set(outcome.who):
            if any(r["usable"] == "true" for r in self.sessions(sub).values()):
                yield f"sub-{sub} is there and usable"

    def fragments(self, text, says):
        yield from (f"{part!r} is not said in:\n{text}" for part in says if part not in text)

    def as_before(self, outcome, but=()):
        """The sessions of the patient are those of the undisturbed cohort, but for what the outcome says."""
        rows, values = self.sessions(outcome.who[0]), dict(outcome.values)
        types = values.pop("treatment_type", None)
        if types is not None:
            known = self.found.participants[outcome.who[0]].get("treatment_type", "n/a")
            if {t.strip() for t in known.split(";")} != set(types.split(";")):
                yield f"treatment_type is {known!r}, expected {types!r}"
        labels = values.pop("sessions", None)
        first = {"01": "01"}.get(outcome.who[0], outcome.who[0])
        base = self.sessions(first, self.base) or self.sessions("01", self.base)
        base = {ses: r for ses, r in base.items() if f"ses-{ses}" not in self.row.gone and ses not in but}
        if labels is not None:
            base = {ses: {"usable": "true"} for ses in labels}
        for place, (ses, old) in enumerate(base.items()):
            if ses not in rows:
                yield f"ses-{ses} is not there"
                continue
            skip = {"sub", *REMARKS, *(["order", "prior"] if but else [])}
            for column, value in (old | dict.fromkeys(values, "")).items():
                if column in skip:
                    continue
                now = rows[ses][column]
                if column in values:
                    value = values[column]
                    value = value.get(ses, old[column]) if isinstance(value, dict) else value
                    value = value[place] if isinstance(value, list) else value
                if column in FILES:
                    value, now = value != "n/a", now != "n/a"
                if not (value == now if column in FILES else same(value, now)):
                    yield f"ses-{ses}: {column} is {now!r}, expected {value!r}"
        for ses in set(rows) - set(base) - set(but):
            if rows[ses]["usable"] == "true" and f"ses-{ses}" not in self.row.gone and labels is None:
                yield f"ses-{ses} is there and usable"

    def complaints(self, outcome):
        if outcome.kind == "refused" or self.error is not None:
            if outcome.kind != "refused" or self.error is None:
                yield "it was not refused" if self.error is None else f"it was refused: {self.error}"
                return
            yield from self.fragments(str(self.error), outcome.says)
            return
        yield from self.common(outcome)
        yield from getattr(self, f"check_{outcome.kind}")(outcome)

    def check_used(self, outcome):
        yield from self.as_before(outcome)
        yield from self.fragments(self.said(outcome.who), outcome.says)
        flags = {f for r in self.sessions(outcome.who[0]).values() for f in r["flags"].split(";")}
        if outcome.flag and not any(f.startswith(outcome.flag.rstrip("*")) for f in flags):
            yield f"flag {outcome.flag} is not among {sorted(flags)}"
        if outcome.quiet:
            if self.found.not_used:
                yield f"not used: {self.found.not_used}"
            warnings = [r["detail"] for r in self.sessions(outcome.who[0]).values() if r["detail"] != "n/a"]
            if warnings and not outcome.values:
                yield f"warnings: {warnings}"

    def out(self, row, outcome):
        right = row["reason"] in outcome.reasons if outcome.reasons else row["reason"] != "n/a"
        if row["usable"] != "false" or not right:
            yield f"usable {row['usable']}, reason {row['reason']} ({row['detail']}), expected {outcome.reasons}"

    def check_session_out(self, outcome):
        row = self.sessions(outcome.who[0]).get(outcome.ses)
        if row is None:
            yield f"ses-{outcome.ses} is not in the table; not used: {self.found.not_used}"
            return
        yield from self.out(row, outcome)
        if row["detail"] == "n/a":
            yield "no detail"
        yield from self.fragments(self.said(outcome.who), outcome.says)
        yield from self.as_before(outcome, but=(outcome.ses,))

    def check_patient_out(self, outcome):
        for sub in outcome.who:
            rows = self.sessions(sub).values()
            if not rows:
                yield f"sub-{sub} is not in the table; not used: {self.found.not_used}"
            for row in rows:
                yield from self.out(row, outcome)
        yield from self.fragments(self.said(outcome.who), outcome.says)

    def check_not_used(self, outcome):
        entries = [e for e in self.found.not_used if e["reason"] in outcome.reasons]
        texts = [" ".join(map(str, e.values())) for e in entries]
        if not any(all(part in text for part in outcome.says) for text in texts):
            yield f"{outcome.says} is not said for {outcome.reasons}; not used: {self.found.not_used}"
        yield from self.as_before(outcome)

    def check_told(self, outcome):
        yield from self.fragments(self.said(outcome.who), outcome.says)


def kept_and_said(c, found):
    """What holds for every answer: the file of what is not used, and the answer to jobs, say the same."""
    assert all(set(e) == {"what", "sub", "reason", "detail"} and all(map(str, e.values())) for e in found.not_used)
    lines = (c.out / "not_used.tsv").read_bytes().decode(errors="surrogateescape").splitlines()
    assert len(lines) == 1 + len(found.not_used)
    assert {line.count("\t") for line in lines} == {3}
    again = cohort.read_cohort(c.out)
    assert again.sessions.astype(str).equals(found.sessions.astype(str))
    assert again.not_used == found.not_used
    assert again.participants == found.participants


@contextlib.contextmanager
def watched(folder, seconds=10):
    """Nobody waits for a pipe: after a while it is closed from here, again and again, and that is a failure."""
    pipes, waited, done = [path for path in folder.rglob("*") if path.is_fifo()], [], threading.Event()

    def release():
        while pipes and not done.wait(seconds):
            for path in pipes:
                with contextlib.suppress(OSError):
                    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                    waited.append(path.name)

    threading.Thread(target=release, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    assert not waited, f"the run waits for a pipe: {waited[0]}"


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS])
def test_a_row_comes_out_as_it_should(row, undisturbed, tmp_path):
    root, bases = undisturbed
    c = fresh(root, tmp_path)
    row.disturb(c)
    if row.later:
        index(c, row.masks)
        row.later(c)
    before = listing(c.root)
    found = error = None
    with watched(c.root):
        try:
            found = index(c, row.masks)
        except InputError as caught:
            error = caught
    after = {path: what for path, what in listing(c.root).items() if not path.startswith(str(c.out))}
    out_before = {path for path in before if path.startswith(str(c.out))}
    before = {path: what for path, what in before.items() if path not in out_before and path != str(c.out)}
    assert {p: w for p, w in after.items() if p in before} == before, "something outside of out was touched"
    assert set(after) <= set(before), "something was written outside of out"
    answer = Answer(row, bases[row.masks], found, error)
    complaints = [list(answer.complaints(outcome)) for outcome in row.outcomes]
    if [] not in complaints:
        texts = ["\n  ".join([f"as {o.kind} {o.reasons}:", *c]) for o, c in zip(row.outcomes, complaints, strict=True)]
        pytest.fail("\n".join(texts), pytrace=False)
    if error is not None:
        assert row.later or (not out_before and not c.out.exists()), "refused, and yet something was written"
        with pytest.raises(InputError):
            index(c, row.masks)
        return
    kept_and_said(c, found)
    again = index(c, row.masks)
    assert again.sessions.equals(found.sessions), "the second answer differs from the first"
    assert again.not_used == found.not_used


def test_the_names_of_rows_differ_and_they_are_many():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) >= 160


def test_the_undisturbed_cohort_is_used_without_a_word(undisturbed):
    _, found = undisturbed
    for with_masks, one in found.items():
        table = one.sessions
        assert set(table["usable"]) == {"true"}
        assert set(table["flags"]) == set(table["detail"]) == {"n/a"}
        assert one.not_used == []
        assert table["days"].tolist() == ["0", "60", "121", "76", "0", "0", "70"] or table["days"].tolist() == [
            "0", "60", "121", "0", "76", "0", "70",
        ]  # fmt: skip
        assert (table["labels"] != "n/a").all() == with_masks


def test_without_keeping_nothing_is_written_and_the_answer_is_the_same(undisturbed, tmp_path):
    root, bases = undisturbed
    c = fresh(root, tmp_path)
    found = index(c, keep=False)
    assert not c.out.exists()
    assert found.sessions.equals(bases[False].sessions)


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 100, b"null", b"[]"], ids=repr)
def test_a_broken_cache_counts_as_none(content, undisturbed, tmp_path):
    root, bases = undisturbed
    c = fresh(root, tmp_path)
    index(c)
    for path in [p for p in c.out.rglob("*") if p.is_file()]:
        path.write_bytes(content)
    assert index(c).sessions.equals(bases[False].sessions)
    kept_and_said(c, index(c))


# Settings.
def config_with(name, value):
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text()) | {"bids": "bids", "out": "out"}
    config = copy.deepcopy(config)
    *blocks, key = name.split(".")
    block = config
    if name == "sensitivity.values":
        config["sensitivity"] = {"values": value}
        return config
    for one in blocks:
        block = block[one]
    block[key] = value
    return config


def judge(name, value):
    config = config_with(name, value)
    settings.read_numbers(config, SCHEMA)
    settings.check_config(config, SCHEMA)


def setting_rows(rows):
    return [pytest.param(*row, id=f"{row[0]} {row[1]!r}") for row in rows]


@pytest.mark.parametrize(("name", "value"), setting_rows(given.NO))
def test_a_setting_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(InputError) as caught:
        judge(name, value)
    assert name.split(".")[-1 if name != "sensitivity.values" else 0].lower() in str(caught.value).lower()


@pytest.mark.parametrize(("name", "value"), setting_rows(given.YES))
def test_a_setting_that_can_be_is_taken(name, value):
    assert judge(name, value) is None


@pytest.mark.parametrize(("name", "value"), setting_rows(given.EITHER))
def test_a_setting_is_taken_or_refused_by_name(name, value):
    try:
        judge(name, value)
    except InputError as error:
        assert name.split(".")[-1] in str(error)


# ---------------------------------------------------------------------------------------- places: the whole command


@pytest.mark.parametrize("place", [pytest.param(p, id=p[0]) for p in places.ROWS])
def test_results_are_never_written_over_what_is_read(place, undisturbed, tmp_path):
    _, disturb, expected = place
    c = fresh(undisturbed[0], tmp_path / "cohort")
    config = {"bids": c.bids, "out": c.out, "threads": 1} | disturb(c)
    own = tmp_path / "own.json"
    own.write_text(json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in config.items()}))
    before = listing(c.root)
    command = [warm.python(), "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--configfile", own]
    done = subprocess.run(
        [*map(str, command), "--cores", "1", "--dry-run", "--quiet"],
        cwd=c.root, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert "Traceback" not in text, text
    assert ("refused" if done.returncode else "goes on") in expected, text
    if done.returncode:
        assert "expected:" in text, text
        assert "to do:" in text, text
    after = {path: what for path, what in listing(c.root).items() if not path.startswith(str(c.root / ".snakemake"))}
    assert after == before, "a dry run wrote something"
