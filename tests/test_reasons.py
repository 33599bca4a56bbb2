"""Every reason is listed once, used, explained, and cannot be misspelt."""

import ast
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mettrail import reasons, schema
from mettrail.errors import InputError
from mettrail.reasons import Kind, Reason

ROOT = Path(__file__).parents[1]
SOURCES = [path for path in sorted((ROOT / "scripts").rglob("*.py")) if path.name != "reasons.py"]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
RULES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflow").glob("*.smk")))
STAGES = set(re.findall(r'log_file\(\s*"(\w+)"', RULES))


def nodes():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            yield path, node


def members_used():
    for _, node in nodes():
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("Reason", "reasons.Reason"):
            yield node.attr
    yield from re.findall(r"\bReason\.([A-Z0-9_]+)", RULES)


def holds_text(node):
    """Whether a value is, or may be, text that is written on the spot."""
    if isinstance(node, ast.IfExp):
        return holds_text(node.body) or holds_text(node.orelse)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(map(holds_text, node.elts))
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def takers():
    """Where functions of the library take a reason: by name, the position of the parameter without self."""
    found = {}
    for _, node in nodes():
        if isinstance(node, ast.FunctionDef):
            for position, arg in enumerate(arg for arg in node.args.args if arg.arg not in ("self", "cls")):
                if arg.annotation is not None and "Reason" in ast.unparse(arg.annotation).split(" | "):
                    found[node.name] = position
    return found


def test_every_reason_is_used():
    unused = set(Reason.__members__) - set(members_used())
    assert {Reason[name].stage for name in unused} == STAGES
    assert set(members_used()) <= set(Reason.__members__) | {"of", "failed"}


def test_every_step_of_the_pipeline_has_its_failure():
    assert len(STAGES) > 20
    assert {reason.stage for reason in Reason} - {None} == STAGES


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_a_reason_says_what_it_means_and_what_to_do(reason):
    assert reason.name == reason.value.upper()
    assert reason.kinds
    for sentence in (reason.text, reason.advice):
        assert re.fullmatch(r"[A-Z].*[^.]\.", sentence)
        assert "|" not in sentence, "it would break a table of Markdown"
    # As a level of a column it begins with a small letter.
    assert re.match(r"[A-Z][a-z]* ", reason.text)


def test_no_reason_is_written_as_text():
    known = takers()
    assert {"exclude", "leave_unused", "warn", "describe"} <= set(known)
    found = []
    for path, node in nodes():
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            given += node.args[known[name] : known[name] + 1] if name in known else []
        elif isinstance(node, ast.Compare) and re.search(r"\breason\b", ast.unparse(node.left)):
            # In a table, a session that is used has n/a.
            given = [each for each in node.comparators if ast.unparse(each) != "'n/a'"]
        else:
            continue
        found += [f"{path.name}:{node.lineno}: {ast.unparse(each)}" for each in given if holds_text(each)]
    assert not found


def test_a_misspelt_reason_is_found_before_anything_runs(tmp_path):
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(
        "from mettrail.errors import InputError\n"
        "from mettrail.reasons import Reason\n"
        "told = {'found': '', 'expected': '', 'advice': ''}\n"
        "InputError('scan', **told, reason=Reason.NOT_3D)\n"
        "InputError('scan', **told, reason=Reason.NOT_4D)\n"
        "InputError('scan', **told, reason='not_3d')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(script)],
        cwd=tmp_path, env={"MYPYPATH": str(ROOT / "scripts")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = re.findall(r"script\.py:(\d+): error: .*\[([\w-]+)\]", done.stdout)
    assert lines == [("5", "attr-defined"), ("6", "arg-type")], done.stdout


def test_a_table_with_an_unknown_reason_is_refused():
    row = dict.fromkeys(schema.columns("sessions")) | {"participant_id": "sub-A", "session_id": "ses-1"}
    for reason in reasons.of_kind(Kind.NOT_EVALUABLE):
        table = schema.make_table([row | {"evaluable": False, "ne_reason": reason}], "sessions")
        assert table["ne_reason"].tolist() == [reason.value]
    for word in ("not_4d", Reason.HIDDEN_FILE):
        with pytest.raises(InputError, match=f"ne_reason = {word}"):
            schema.make_table([row | {"evaluable": False, "ne_reason": word}], "sessions")


def test_the_levels_of_columns_are_the_reasons_of_their_kind():
    levels = reasons.levels(Kind.NOT_EVALUABLE)
    assert levels["not_3d"] == "the scan is not one three-dimensional volume"
    assert schema.levels("sessions", "ne_reason") == list(levels)
    assert set(reasons.levels(Kind.WARNING)) < set(schema.levels("sessions", "flags"))


def test_a_reason_is_its_word_wherever_it_goes():
    reason = Reason.of("not_3d")
    assert (reason, f"{reason}", json.dumps([reason])) == (Reason.NOT_3D, "not_3d", '["not_3d"]')
    assert pickle.loads(pickle.dumps(reason)) is reason
    assert (
        pickle.loads(pickle.dumps(InputError("a", found="b", expected="c", advice="d", reason=reason))).reason is reason
    )
    assert (reason.about("T2w"), Reason.failed("segment").value) == ("T2w_not_3d", "failed_segment")
    assert (Reason.failed("segment").stage, reason.stage) == ("segment", None)


def test_documentation_is_made_from_the_list():
    page = "# Reasons\n\n<!-- reasons: registration -->\nold\n<!-- end -->\n\nThe end.\n"
    new = reasons.renew_markdown(page)
    assert "| `not_rigid` | The registration to the reference session is not rigid. | Look at " in new
    assert "old" not in new
    assert "no_contrast" not in new
    assert new.endswith("<!-- end -->\n\nThe end.\n")
    assert reasons.renew_markdown(new) == new
