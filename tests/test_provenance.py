"""What a result depends on: found here by running imports, there by reading them."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mettrail import provenance

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
MODULES = sorted((ROOT / "scripts" / "mettrail").rglob("*.py"))
# What could bring in a module, or code, by a name that is worked out.
BUILT_IN = {"__import__", "exec", "eval", "compile"}
BY_NAME = {
    "import_module", "find_spec", "spec_from_file_location", "module_from_spec", "exec_module",
    "find_loader", "load_module", "locate", "run_path", "run_module", "resolve_name",
    "recursive_find_python_class", "recursive_find_trainer_class_by_name", "iter_modules", "walk_packages",
}  # fmt: skip
# Scripts with a registration: engines are loaded by name.
REGISTERING = ("register.py", "register_reference.py", "register_sequence.py", "strip.py")
# Imports a script's modules, and no other script's, and tells which of the library came with them.
TRACE = """
import ast, json, sys
from pathlib import Path

found = {}
for path in map(Path, sys.argv[1:]):
    for name in [name for name in sys.modules if name.split(".")[0] == "mettrail"]:
        del sys.modules[name]
    body = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(body, []), path.name, "exec"), {})
    modules = [module for name, module in sys.modules.items() if name.startswith("mettrail.")]
    found[path.name] = [module.__file__ for module in modules]
print(json.dumps(found))
"""


def digest(tmp_path, text, monkeypatch):
    (tmp_path / "part.py").write_text(text)
    (tmp_path / "script.py").write_text("from mettrail import part\n")
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path)
    return provenance.source_digest(tmp_path / "script.py")


def test_code_of_an_imported_module_changes_the_digest_comments_do_not(tmp_path, monkeypatch):
    first = digest(tmp_path, 'def f():\n    """Old."""\n    return 1\n', monkeypatch)
    assert digest(tmp_path, 'def f():\n    """New words."""\n    return 1  # why\n', monkeypatch) == first
    assert digest(tmp_path, "def f():\n    return 2\n", monkeypatch) != first


def test_files_that_a_script_reads_count(tmp_path):
    (tmp_path / "captions").mkdir()
    caption, script = tmp_path / "captions" / "a.rst", SCRIPTS[0]
    caption.write_text("old")
    first = provenance.source_digest(script, data=[tmp_path / "captions"])
    caption.write_text("new")
    assert provenance.source_digest(script, data=[tmp_path / "captions"]) != first
    assert provenance.source_digest(script) == provenance.source_digest(script, data=[])


@pytest.fixture(scope="module")
def reached():
    """Script -> files of the library that it reaches, by importing and, for what functions import, by the words."""
    done = subprocess.run(
        [sys.executable, "-c", TRACE, *map(str, SCRIPTS)],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "scripts"), "PATH": ""},
    )  # fmt: skip
    found = {name: {Path(path) for path in paths} for name, paths in json.loads(done.stdout.splitlines()[-1]).items()}
    for files in found.values():
        while True:
            words = set(re.findall(r"^ *from (mettrail[\w.]*) import (\w+)", "\n".join(map(read, files)), re.MULTILINE))
            files_before = len(files)
            files |= {path for module, name in words for path in files_of(module, name)}
            if len(files) == files_before:
                break
    return found


def read(path):
    return path.read_text(encoding="utf-8")


def files_of(module, name):
    """Every file that running ``from module import name`` runs, the library's own __init__ left out."""
    steps = f"{module}.{name}".split(".")
    bases = [ROOT / "scripts" / Path(*steps[: n + 1]) for n in range(1, len(steps))]
    return [path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()]


def test_editing_a_library_file_changes_every_script_that_reaches_it(reached, tmp_path, monkeypatch):
    library = tmp_path / "mettrail"
    shutil.copytree(ROOT / "scripts" / "mettrail", library, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "LIBRARY", library)
    before = {path.name: provenance.source_digest(path) for path in SCRIPTS}
    assert len(MODULES) > 50
    for module in MODULES:
        copy = library / module.relative_to(ROOT / "scripts" / "mettrail")
        text = read(copy)
        copy.write_text(f"{text}\nEDITED = True\n", encoding="utf-8")
        engine = module.parent.name == "registration" and module.stem != "visits"
        asked = [path for path in SCRIPTS if module in reached[path.name] or (engine and path.name in REGISTERING)]
        missed = {path.name for path in asked if provenance.source_digest(path) == before[path.name]}
        copy.write_text(text, encoding="utf-8")
        assert not missed, f"an edit of {module.name} reruns nothing of {missed}"


def test_the_librarys_own_init_holds_the_version_alone():
    body = ast.parse(read(ROOT / "scripts" / "mettrail" / "__init__.py")).body
    assert [ast.unparse(node).split(" =")[0] for node in body[1:]] == ["__version__"]


@pytest.mark.parametrize("path", [*SCRIPTS, *MODULES], ids=lambda p: str(p.relative_to(ROOT / "scripts")))
def test_no_module_is_loaded_by_a_name_that_is_worked_out(path):
    for node in ast.walk(ast.parse(read(path))):
        assert not (isinstance(node, ast.ImportFrom) and node.level), "an import relative to the package"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)  # re.compile and a network's .eval() are not the built-in ones
            called = called if (last := called.split(".")[-1]) in BUILT_IN else last
            where = f"{path.name}, line {node.lineno}: {ast.unparse(node)}"
            # Where a package of others lies, by its own name.
            assert called not in BY_NAME | BUILT_IN or re.search(r"find_spec\('(?!mettrail)\w+'\)$", where), where


def test_rules_name_the_projects_files_that_they_read():
    for path in (ROOT / "workflow").glob("*.smk"):
        for block in re.split(r"\n\n\n", read(path)):
            (params,) = re.findall(r"    params:\n((?:        .*\n)+)", block) or [""]
            for name in re.findall(r"=(CAPTIONS|REFERENCES|REGISTRY_OF_WEIGHTS)", params):
                assert re.search(rf'source_digest\("\w+\.py", .*\b{name}\b', params), f"{path.name}: {name}"
            assert "ROOT /" not in params, f"{path.name}: a file that its digest does not know"


def test_an_edited_template_makes_pages_again():
    text = read(ROOT / "workflow" / "report.smk")
    for script, data in (
        ("report.py", "CAPTIONS, TEMPLATES, REFERENCES"),
        ("report_patient.py", "CAPTIONS, TEMPLATES"),
        ("report_lesions.py", "TEMPLATES, NIIVUE"),
    ):
        assert f'source_digest("{script}", {data})' in text
    (folder,) = re.findall(r"TEMPLATES = str\(ROOT / (.*)\)", text)
    assert (ROOT.joinpath(*re.findall(r'"(.*?)"', folder)) / "base.html.j2").is_file()


def test_an_edit_of_any_file_of_the_library_changes_the_projects_digest(tmp_path, monkeypatch):
    for name in ("scripts", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", tmp_path)
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path / "scripts" / "mettrail")
    before = provenance.project_digest(tmp_path)
    files = [path for path in (tmp_path / "scripts" / "mettrail").rglob("*") if path.is_file()]
    others = [path for path in files if path.suffix != ".py" and path.name not in ("py.typed", "SHA256SUMS")]
    assert {path.suffix for path in others} >= {".j2", ".css", ".js", ".txt"}
    for path in [next(path for path in files if path.suffix == ".py"), *others]:
        text = read(path)
        path.write_text(f"{text}\nEDITED = True\n", encoding="utf-8")
        assert provenance.project_digest(tmp_path) != before, path.name
        path.write_text(text, encoding="utf-8")
    assert provenance.project_digest(tmp_path) == before
