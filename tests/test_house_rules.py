"""What CONTRIBUTING.md promises, held to."""

import ast
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, shipped_config
from mettrail import schema

LIBRARY = ROOT / "scripts" / "mettrail"
MODULES = sorted(LIBRARY.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
# Its events have words of their own.
PLUGIN = sorted((ROOT / "scripts" / "snakemake_logger_plugin_mettrail").rglob("*.py"))
RULE_FILES = sorted((ROOT / "workflow").glob("*.smk"))
STAGES = ["debias", "strip", "preprocess", "register", "propagate", "segment", "measure", "match", "assess", "report"]

# From the ground up: a room imports from rooms below it, never from its own floor or above.
FLOORS = (
    ("colours", "reasons"),
    ("errors", "files", "project", "provenance", "sidecars"),
    ("devices", "images", "jobs", "results", "schema", "weights"),
    ("dicom", "drawn", "geometry"),
    ("bias", "contrast", "template", "transforms"),
    ("points", "registration", "settings"),
    ("brain", "cohort", "networks", "tracking"),
    ("phantom", "response", "segmentation"),
    ("report",),
    ("evaluation",),
    ("training",),
    ("study",),
    ("cli",),
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
def test_a_stage_has_one_rule_file_script_caption_and_log_folder(stage):
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
            assert all(re.match(r"        (\w+=|\*\*|    |\)|\])", line) for line in section.splitlines()), section


def settings_without_a_description(rule, name=""):
    if "properties" in rule:
        for key, inner in rule["properties"].items():
            yield from settings_without_a_description(inner, f"{name}.{key}".lstrip("."))
    if name and not rule.get("description", "").strip():
        yield name


def test_every_setting_is_explained():
    rules_of_settings = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.yaml").read_text())
    assert list(settings_without_a_description(rules_of_settings)) == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_pins_are_exact_and_say_nothing_of_a_build(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
    assert all(re.fullmatch(r"[\w.\[\]-]+==[\w.]+", line) for line in lines)
    assert ("torch==2.13.0" in lines) == (name == "requirements.txt")
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


# --- Habits of the tests -------------------------------------------------------------------------------------------

TEST_FILES = {str(path.relative_to(ROOT / "tests")): path for path in sorted((ROOT / "tests").rglob("*.py"))}


# What these files still do and should not. A file that is put right leaves the list; none is added.
def in_test_files(check):
    """What a check finds in each test file, by its syntax tree; files without a finding are not listed."""
    found = {name: sorted(set(check(ast.parse(path.read_text())))) for name, path in TEST_FILES.items()}
    return {name: hits for name, hits in found.items() if hits}


def imported_names(tree):
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)


def functions(tree):
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def name_called(call):
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_private(name):
    # os._exit is what its documentation tells a forked process to call.
    return name.startswith("_") and not name.startswith("__") and name != "_exit"


def private_names(tree):
    imported = set(imported_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in imported:
            yield from filter(is_private, [node.attr])
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Call) and name_called(node) in ("setattr", "getattr"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and is_private(str(arg.value)))


def test_tests_use_no_private_names_of_other_modules():
    """What a test needs is public and has a docstring, or is tested through what is public."""
    assert in_test_files(private_names) == {}


def other_tests(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (name for name in [node.module] if name.split(".")[-1].startswith("test_"))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("test_"))


def test_test_files_do_not_import_each_other():
    """What several of them need is in `conftest` or in a module of its own."""
    assert in_test_files(other_tests) == {}


def bare_tests(tree):
    """Of those that neither assert themselves nor call a function of their file that does."""
    own = functions(tree)

    def asserts(node, seen=frozenset()):
        parts = list(ast.walk(node))
        called = {name_called(part) for part in parts if isinstance(part, ast.Call)} - seen
        return (
            any(isinstance(part, ast.Assert) for part in parts)
            or any(name in ("raises", "warns", "fail") or name.startswith("assert_") for name in called)
            or any(asserts(own[name], seen | called) for name in called & set(own))
        )

    return [name for name, node in own.items() if name.startswith("test_") and not asserts(node)]


def test_every_test_asserts_something():
    assert in_test_files(bare_tests) == {}


def test_names_of_tests_have_at_most_70_characters():
    found = in_test_files(lambda tree: [n for n in functions(tree) if n.startswith("test_") and len(n) > 70])
    assert found == {}


def hidden_imports(tree):
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for function in functions(tree).values():
        stored = [node for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        bound |= {node.id for node in stored}
    return bound & set(imported_names(tree))


def test_no_variable_of_a_test_hides_an_import():
    assert in_test_files(hidden_imports) == {}


def items_in(tree):
    """Name and value of the items of every dict that is written out, and of the keywords of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            yield [(key.value, value) for key, value in zip(node.keys, node.values) if isinstance(key, ast.Constant)]
        elif isinstance(node, ast.Call) and name_called(node) not in (
            "skip",
            "skipif",
            "xfail",
            "param",
            "importorskip",
        ):
            yield [(keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg]


def blocks_of(settings):
    for value in settings.values():
        if isinstance(value, dict):
            yield value
            yield from blocks_of(value)


def is_written_as(value, setting):
    """Whether what stands in the code is the value of a setting; a name or a call is not."""
    try:
        return ast.literal_eval(value) == setting
    except ValueError:
        return False


def copied_settings(tree):
    blocks = list(blocks_of(shipped_config()))
    for items in items_in(tree):
        for block in blocks:
            same = [
                name
                for name, value in items
                if block.get(name) not in (None, "", []) and is_written_as(value, block[name])
            ]
            yield from same if len(same) >= 3 else ()


def test_tests_copy_no_settings():
    """`conftest.settings_of` has them: a copy goes on testing what is no longer shipped."""
    found = {name: hits for name, hits in in_test_files(copied_settings).items() if not name.startswith("benchmarks/")}
    assert found == {}


# Columns of which tables list the levels, and those of reasons.
WORDED = {c.name for columns in schema.KINDS.values() for c in columns if c.levels} | {"reason", "ne_reason"}
# Words that tests write to see them refused, or that their own formats have.
NOT_IN_TABLES = {"gone", "rôle", "no row", "str"}


def words_in(tree):
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_tests_use_words_that_the_library_has():
    """A status, level, flag or reason that never occurs tests nothing."""
    known = {level for columns in schema.KINDS.values() for c in columns for level in c.levels or ()}
    known |= {word for path in MODULES for word in words_in(ast.parse(path.read_text()))}
    known |= {word for path in [*SCRIPTS, *PLUGIN] for word in words_in(ast.parse(path.read_text()))}
    known |= {word for path in RULE_FILES for word in re.findall(r'"(\w+)"', path.read_text())}
    known |= {f"failed_{stage}" for stage in STAGES} | NOT_IN_TABLES

    def unknown(tree):
        for items in items_in(tree):
            for name, value in items:
                if name in WORDED and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield from set(value.value.split(";")) - known

    assert in_test_files(unknown) == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_no_file_and_no_function_is_too_long_to_read(path):
    """Docstrings do not count: they are read on their own."""
    text = path.read_text()
    assert len(text.splitlines()) <= 800
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            about = (ast.get_docstring(node, clean=False) or "").splitlines()
            assert node.end_lineno - node.lineno + 1 - len(about) <= 80, node.name


def modules_hidden(path):
    """Names of imported modules of ours that a parameter or variable of the file hides."""
    tree = ast.parse(path.read_text())
    ours = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mettrail"
        for alias in node.names
        if (LIBRARY.parent / node.module.replace(".", "/") / f"{alias.name}.py").exists()
        or (LIBRARY.parent / node.module.replace(".", "/") / alias.name / "__init__.py").exists()
    }
    # Fields of classes hide nothing.
    within = [part for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for part in ast.walk(node)]
    within += [part for node in tree.body if not isinstance(node, ast.ClassDef) for part in ast.walk(node)]
    stored = {node.id for node in within if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return ours & (stored | {node.arg for node in within if isinstance(node, ast.arg)})


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda p: str(p.relative_to(ROOT / "scripts")))
def test_no_variable_hides_a_module(path):
    assert modules_hidden(path) == set()


def test_types_are_right():
    """Strict mypy over the library, as `[tool.mypy]` of pyproject.toml has it."""
    pytest.importorskip("mypy")
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
