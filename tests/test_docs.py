"""What the documentation says is so: generated parts are current, links lead somewhere, examples run."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mettrail import cli, reasons, schema, settings
from mettrail.reasons import Kind, Reason
from mettrail.schema import vocabulary

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
BESIDE = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "config/README.md")]
BESIDE += sorted((ROOT / "resources" / "training").glob("*.md"))
SCHEMA = ROOT / "workflow" / "schemas" / "config.yaml"
LESIONS = (("ses-1", "L001", 14.0), ("ses-2", "L001", 9.5), ("ses-1", "L002", 11.0), ("ses-2", "L002", 18.0))


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def relative_links(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith(("https://", "#")):
            yield link.partition("#")[0]


def commands():
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in block.splitlines():
                if line.startswith("$ "):
                    yield pytest.param(line[2:], id=line[2:].replace(" ", "_"))


@pytest.fixture(scope="module")
def document():
    spec = importlib.util.spec_from_file_location("document_columns", ROOT / "scripts" / "document_columns.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results(tmp_path):
    """The tables of five patients with two lesions each, where the examples look for them."""

    def write(kind, rows):
        empty = dict.fromkeys(schema.columns(kind))
        table = schema.make_table([empty | {"participant_id": "sub-A"} | row for row in rows], kind)
        schema.write_csv_mirror(table, tmp_path / "tables" / f"{kind}.csv", kind)

    (tmp_path / "tables").mkdir()
    lesions = [
        {
            "participant_id": f"sub-{sub}",
            "session_id": session,
            "track_id": track,
            "status": "present",
            "ld_mm": ld,
            "vol_wl_ml": size * int(track[-1]) ** power * ld**0.1,
            "days_from_t0": 60 * (session == "ses-2"),
        }
        for sub, size, power in (("A", 1, 1), ("B", 9, -2), ("C", 0.3, 2), ("D", 2, -1), ("E", 20, 0.5))
        for session, track, ld in LESIONS
    ]
    write("lesions", lesions)
    write(
        "sessions",
        [
            {"session_id": "ses-1", "days_from_t0": 0},
            {"session_id": "ses-2", "days_from_t0": 60, "response_overall_final": "PD", "pd_reason": "target"},
        ],
    )
    return tmp_path


def test_the_page_of_outputs_shows_every_column_as_it_is(document):
    page = document.OUTPUTS.read_text(encoding="utf-8")
    assert document.renew_outputs(page) == page, "run scripts/document_columns.py"
    for kind in schema.KINDS:
        assert schema.markdown_table(kind) in page


def test_the_page_of_settings_shows_them_and_the_words_as_they_are(document):
    page = document.SETTINGS.read_text(encoding="utf-8")
    assert document.renew_settings(page) == page, "run scripts/document_columns.py"
    assert vocabulary.markdown_table() in page
    for name in yaml.safe_load(SCHEMA.read_text())["properties"]:
        assert f"| `{name}` |" in page or f"### {name}\n" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_examples_run(page, results, monkeypatch):
    examples = blocks(page, "python")
    if not examples:
        return
    monkeypatch.chdir(results)
    names = {}
    for number, code in enumerate(examples, start=1):
        exec(compile(code, f"{page.name}, example {number}", "exec"), names)
    assert names


def test_examples_print_what_the_page_says(results, capsys):
    page = DOCS / "python.md"
    example = next(code for code in blocks(page, "python") if "target_response" in code)
    exec(compile(example, page.name, "exec"), {})
    assert capsys.readouterr().out == blocks(page, "text")[0]


def test_the_command_has_what_the_pages_name(capsys):
    shell = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    code = [*shell, *(code for page in PAGES for code in re.findall(r"`(.+?)`", page.read_text(encoding="utf-8")))]
    named = {line.split()[1] for line in code if re.match(r"mettrail [a-z]", line)}
    assert {"run", "train", "doctor"} <= named
    assert named <= {*cli.WORKFLOW, *cli.SCRIPTS, *cli.DICOM, "fetch", "doctor", "review", "accept", "init"}
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    shown = capsys.readouterr().out
    start = (DOCS / "index.md").read_text(encoding="utf-8")
    options = re.findall(r"^\| `(--[a-z-]+)", start, re.MULTILINE)
    assert len(options) == 7
    assert [option for option in options if option not in shown] == []


def commands_to_type():
    """Those of the pages that are ours, without what a script of its own reads."""
    for page in PAGES:
        for line in "".join(blocks(page, "sh")).splitlines():
            words = shlex.split(line, comments=True) if line.startswith("mettrail ") else []
            if words and words[1] not in cli.SCRIPTS and not {"…", "["} & {*line}:
                yield pytest.param(words[1:], id="_".join(words))


@pytest.mark.parametrize("words", list(commands_to_type()))
def test_commands_of_the_pages_can_be_typed(words):
    assert cli.make_parser().parse_args(cli.as_command(cli.split_options(words)[0])).command


@pytest.mark.parametrize("command", list(commands()))
def test_commands_that_only_say_something_run(command):
    assert {"--help", "--dry-run"} & set(command.split()), "a console block writes nothing"
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": search, "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(
        shlex.split(command), cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_settings_files_of_the_examples_are_valid():
    examples = [block for page in PAGES for block in blocks(page, "yaml") if block.startswith("# mine.yaml")]
    assert len(examples) >= 2
    for example in examples:
        config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text()) | {"bids": "a", "out": "b"}
        for name, given in yaml.safe_load(example).items():
            config[name] = config[name] | given if isinstance(given, dict) else given
        settings.check_config(config, SCHEMA)


@pytest.mark.parametrize("page", [*PAGES, *BESIDE], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_to_one(page):
    missing = [link for link in relative_links(page) if not (page.parent / link).exists()]
    assert missing == []


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*PAGES, *BESIDE]:
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, page.name


def test_the_faq_explains_every_reason_a_user_can_meet_in_a_table(document):
    page = document.FAQ.read_text(encoding="utf-8")
    assert reasons.renew_markdown(page) == page, "run scripts/document_columns.py"
    for kind in (Kind.NOT_EVALUABLE, Kind.WARNING, Kind.NOT_USED):
        assert reasons.markdown_table(kind) in page


def test_reasons_named_by_hand_in_the_faq_exist():
    rows = re.findall(r"^\| ((?:`[a-z_0-9]+`(?:, )?)+) \|", (DOCS / "faq.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = [reason for row in rows for reason in re.findall(r"`([a-z_0-9]+)`", row)]
    assert set(named) <= set(Reason)


def test_the_readme_is_short_and_names_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 10_000
    assert "make demo " in text
    assert "make test " in text


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: make docs does so")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert (tmp_path / "site" / "settings" / "index.html").exists()
