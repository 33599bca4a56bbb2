"""What installs mettrail: the wheel, the pins, the containers and the conda environment name what there is."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conftest import write_bids
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Distributions that are called otherwise than the module they bring.
MODULES = {
    "antspyx": "ants", "connected-components-3d": "cc3d", "markdown-it-py": "markdown_it",
    "pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage",
    "scikit-learn": "sklearn", "simpleitk": "SimpleITK",
}  # fmt: skip
# Not imported: what snakemake finds by itself, and files of a package that are read.
BY_NAME = {"snakemake_executor_plugin_slurm", "nilearn"}


def name_of(requirement):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def pins(name):
    return [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]


def module_of(requirement):
    name = name_of(requirement)
    return MODULES.get(name, name.replace("-", "_")).lower()


def imported():
    """The packages that library, scripts and rules import, those of Python itself left out."""
    found = set()
    for path in [*(ROOT / "scripts").rglob("*.py"), *(ROOT / "workflow").glob("*.smk")]:
        for line in path.read_text().splitlines():
            match = re.match(r"\s*(?:from|import) ([A-Za-z]\w*)", line) if path.suffix == ".smk" else None
            found |= {match[1]} if match else set()
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                found |= {name.split(".")[0] for name in names}
    return {name.lower() for name in found - set(sys.stdlib_module_names) - {"mettrail"}}


def serving():
    """What the package and the extras of its commands ask for."""
    extras = PROJECT["optional-dependencies"]
    return [*PROJECT["dependencies"], *(each for name in ("train", "dicom", "features") for each in extras[name])]


def test_what_is_imported_is_declared_and_nothing_else():
    declared = {module_of(requirement) for requirement in serving()}
    assert declared - BY_NAME == imported() - BY_NAME


def test_every_declared_package_is_pinned_within_its_range():
    pinned = {name_of(line): line.split("==")[1] for line in [*pins("requirements.txt"), *pins("requirements-dev.txt")]}
    extras = [requirement for listed in PROJECT["optional-dependencies"].values() for requirement in listed]
    for requirement in [*PROJECT["dependencies"], *extras]:
        assert Requirement(requirement).specifier.contains(pinned[name_of(requirement)]), requirement


def test_what_containers_install_serves_every_command():
    pinned = {name_of(line) for line in pins("requirements.txt")}
    assert {name_of(requirement) for requirement in serving()} <= pinned


def test_no_package_is_pinned_twice():
    names = [name_of(line) for line in [*pins("requirements.txt"), *pins("requirements-dev.txt")]]
    assert len(names) == len(set(names))


def test_a_run_needs_nothing_of_what_developers_need():
    run, dev = ({name_of(line) for line in pins(f"requirements{kind}.txt")} for kind in ("", "-dev"))
    for name in run:
        for requirement in map(Requirement, metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert name_of(requirement.name) not in dev, f"{name} asks for {requirement}"


def test_the_conda_environment_has_the_pins_and_points_at_no_file():
    environment = yaml.safe_load((ROOT / "envs" / "python.yaml").read_text())
    python, pip, listed = environment["dependencies"]
    assert python.removeprefix("python=") in PROJECT["requires-python"]
    assert pip == "pip"
    assert listed == {"pip": pins("requirements.txt")}, "make envs/python.yaml"


def test_rules_name_a_conda_environment_that_exists():
    for path in (ROOT / "workflow").glob("*.smk"):
        for name in re.findall(r'conda:\n\s+"([^"]+)"', path.read_text()):
            assert (path.parent / name).exists(), f"{path.name}: {name}"


def copied(name):
    """What a container's recipe copies: (paths in the project, where to)."""
    text = (ROOT / name).read_text()
    if name == "Dockerfile":
        lines = [line.split()[1:] for line in text.splitlines() if line.startswith("COPY ")]
    else:
        lines = [line.split() for line in text.split("%files\n")[1].split("\n\n")[0].splitlines()]
    return [(source, target) for *sources, target in lines for source in sources]


@pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def"])
def test_a_container_copies_what_exists_and_all_that_the_wheel_needs(name):
    sources = {source for source, _ in copied(name)}
    assert not [source for source in sources if not (ROOT / source).exists()]
    setup = ast.parse((ROOT / "setup.py").read_text())
    needed = next(ast.literal_eval(node.value) for node in setup.body if isinstance(node, ast.Assign))
    for pattern in needed:
        assert [path for path in ROOT.glob(pattern) if path.is_file()], pattern
        assert any(pattern == source or pattern.startswith(f"{source}/") for source in sources), pattern
    assert {"pyproject.toml", "setup.py", PROJECT["readme"], *PROJECT["license-files"]} <= sources


@pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def", "scripts/setup.sh"])
def test_what_installs_packages_installs_the_pinned_ones(name):
    text = (ROOT / name).read_text()
    assert set(re.findall(r"[\w-]+==[\w.]+", text)) == {"torch==2.13.0"} <= set(pins("requirements.txt"))
    assert set(re.findall(r"requirements[\w-]*\.txt", text)) >= {"requirements.txt"}
    assert re.search(r"--no-deps .*-r requirements\.txt", text)


@pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def"])
def test_a_container_is_the_command(name):
    text = (ROOT / name).read_text()
    assert PROJECT["scripts"]["mettrail"] == "mettrail.cli:main"
    assert 'ENTRYPOINT ["mettrail"]' in text or 'exec mettrail "$@"' in text
    version = re.search(r"python:(3\.\d+)", text)[1]
    assert f">={version}" in PROJECT["requires-python"]


def test_docker_sees_what_its_recipe_copies():
    seen = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source.split("/")[0] for source, _ in copied("Dockerfile")} == seen


def test_continuous_integration_calls_what_exists():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in commands
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {command.split()[1] for command in commands if command.startswith("make ")} <= set(targets)


def test_hooks_and_forms_can_be_read():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    tools = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks}
    assert tools <= {name_of(line) for line in pins("requirements-dev.txt")}
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert {"name", "description", "body"} <= set(yaml.safe_load(path.read_text())), path


def test_the_citation_names_the_version():
    from mettrail import __version__

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert cited["license"] == PROJECT["license"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The library and the project's files as a wheel holds them, elsewhere than the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder, "build", "--build-base", folder,
         "--build-lib", folder / "lib"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "lib"


def test_the_wheel_runs_without_the_checkout(installed, tmp_path):
    write_bids(tmp_path / "bids", {"A": {"1": ["ce-gadolinium_T1w"], "2": ["ce-gadolinium_T1w"]}})
    done = subprocess.run(
        [sys.executable, "-c", "from mettrail.cli import main; raise SystemExit(main())", "run", "bids", "out", "-n"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ jobs for 1 patient would run", done.stdout)
    assert "segment 2" in done.stdout
    assert not (tmp_path / "out").exists()


def test_the_wheel_brings_models_and_plugin_but_no_tests(installed):
    project = installed / "mettrail" / "project"
    assert len(list(project.glob("resources/models/*/fold_0/weights.safetensors"))) == 4
    assert (installed / "mettrail" / "py.typed").exists()
    assert (installed / "snakemake_logger_plugin_mettrail" / "__init__.py").exists()
    assert not [path for path in installed.rglob("*") if "test" in path.name]
    assert sum(path.stat().st_size for path in installed.rglob("*") if path.is_file()) < 100e6
