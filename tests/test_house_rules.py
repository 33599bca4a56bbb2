"""What CONTRIBUTING.md promises, held to."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "scripts" / "mettrail"
MODULES = sorted(LIBRARY.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
RULE_FILES = sorted((ROOT / "workflow").glob("*.smk"))
STAGES = ["debias", "strip", "align", "register", "propagate", "segment", "measure", "match", "assess", "report"]

# From the ground up: a room imports from rooms below it, never from its own floor or above.
FLOORS = (
    ("reasons",),
    ("errors", "files", "provenance", "sidecars"),
    ("devices", "images", "jobs", "results", "schema", "weights"),
    ("drawn", "geometry"),
    ("bias", "template", "transforms"),
    ("points", "registration", "settings"),
    ("brain", "cohort", "tracking"),
    ("phantom", "response", "segmentation"),
    ("report",),
    ("evaluation",),
    ("training",),
)
# Functions that read or write images and transforms.
OPENERS = re.compile(
    r"(nib|nibabel)\.(\w+\.)*(load|save|from_filename|to_filename|from_bytes|from_stream)$"
    r"|(sitk|SimpleITK)\.(Read|Write|Image(File|Series)(Reader|Writer))|ants\.(image|transform)_(read|write)$"
)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def rules():
    for path in RULE_FILES:
        for block in re.split(r"\n\n\n", path.read_text()):
            # A rule without output only names files that other rules make.
            if re.match(r"(rule|checkpoint) \w+:", block) and "    output:" in block:
                yield path, block


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_the_library_knows_nothing_of_snakemake(path):
    assert not [name for name in imports(path) if name.split(".")[0] == "snakemake"]


def opens_scans(path):
    """Names of other libraries by which a module reads or writes images and transforms."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and OPENERS.match(name := ast.unparse(node)):
            yield name
        # Imported one by one, such functions would have no library's name.
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("nibabel", "SimpleITK", "ants"):
            yield node.module


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda p: str(p.relative_to(ROOT / "scripts")))
def test_scans_are_opened_in_one_module_and_transforms_in_another(path):
    allowed = {LIBRARY / "images.py": ("nib",), LIBRARY / "transforms.py": ("sitk",)}.get(path, ())
    assert not [name for name in opens_scans(path) if not name.startswith(allowed)]


def rooms_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mettrail":
            yield from (f"{node.module}.{alias.name}".split(".")[1] for alias in node.names)


def room_of(path):
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_a_room_imports_only_from_rooms_below_it(path):
    floor = {name: n for n, names in enumerate(FLOORS) for name in names}
    own = room_of(path)
    if own != "__init__":
        others = {name for name in rooms_imported(path) if name not in (own, "__version__")}
        assert not [name for name in others if floor[name] >= floor[own]]


def test_every_room_has_a_floor():
    assert {room_of(path) for path in MODULES} - {"__init__"} == {name for names in FLOORS for name in names}


def test_there_is_no_utils_and_no_helpers():
    assert not [p for p in MODULES if p.stem in ("utils", "helpers", "misc", "common")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_do_not_think(path):
    tree = ast.parse(path.read_text())
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.For | ast.While | ast.ClassDef)], (
        "loops belong in the library"
    )
    assert len(path.read_text().splitlines()) <= 70


def test_the_snakefile_is_a_table_of_contents():
    text = (ROOT / "Snakefile").read_text()
    assert len(text.splitlines()) <= 50
    includes = re.findall(r'include: "workflow/(\w+)\.smk"', text)
    assert [name for name in includes if name in STAGES] == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_one_rule_file_one_script_one_caption_and_one_log_folder(stage):
    text = (ROOT / "workflow" / f"{stage}.smk").read_text()
    assert f"rule {stage}:" in text
    assert (ROOT / "scripts" / f"{stage}.py").exists()
    assert (ROOT / "workflow" / "report" / f"{stage}.rst").exists()
    assert f'log_file("{stage}"' in text


@pytest.mark.parametrize(("path", "block"), [pytest.param(p, b, id=b.split(":")[0]) for p, b in rules()])
def test_every_rule_leaves_a_trace_and_says_what_it_needs(path, block):
    for directive in ("log:", "benchmark:", "threads:", "mem_mb=", "runtime=", "conda:", "source=source_digest("):
        assert directive in block, directive
    assert re.match(r'rule \w+:\n    """', block), "a rule says what it does"
    assert "run:" not in block


def test_rules_name_their_inputs_and_outputs():
    for _, block in rules():
        for section in re.findall(r"    (?:input|output):\n((?:        .*\n)+)", block):
            assert all(re.match(r"        (\w+=|    |\)|\])", line) for line in section.splitlines()), section


def settings_without_a_description(rule, name=""):
    if "properties" in rule:
        for key, inner in rule["properties"].items():
            yield from settings_without_a_description(inner, f"{name}.{key}".lstrip("."))
    if name and not rule.get("description", "").strip():
        yield name


def test_every_setting_is_explained():
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.yaml").read_text())
    assert list(settings_without_a_description(schema)) == []


def test_pins_are_exact_and_say_nothing_of_a_build():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[\w.\[\]-]+==[\w.]+", line) for line in lines)
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if line.startswith(("nvidia", "torchvision"))]


def test_code_is_linted_and_formatted():
    for command in (["check", "."], ["format", "--check", "."]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
