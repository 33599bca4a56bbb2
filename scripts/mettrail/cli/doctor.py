"""Whether a run can start here, and on what."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import yaml
from rich.console import Console
from rich.text import Text

from mettrail import __version__, project

# Those that decide what comes out, or whether anything does.
PACKAGES = (
    "antspyx", "deepbet", "nibabel", "nilearn", "nnunetv2", "numpy", "pandas", "picsl_greedy", "scikit-image", "scipy",
    "simpleitk", "snakemake",
)  # fmt: skip
PYTHONS = ((3, 11), (3, 12))
# Below these a run may stop on the way: a job asks for up to 4 GB, a session's results take 50 MB.
MEMORY_GB, DISK_GB = 4, 5
_GB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    name, text : str
    ok : bool
        False where a run cannot start.
    remark : bool
        True where it can, but people should know.
    """

    name: str
    text: str
    ok: bool = True
    remark: bool = False


def run() -> int:
    """Print what was found; return 0 where a run can start, 1 where not."""
    console, findings = Console(soft_wrap=True), list(examine())
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, style = ("x", "red") if not finding.ok else ("!", "yellow") if finding.remark else (" ", "")
        console.print(Text(f"{mark} {finding.name:<{width}}  {finding.text}", style=style))
    bad = [finding.name for finding in findings if not finding.ok]
    console.print(f"\nA run cannot start: {', '.join(bad)}." if bad else "\nA run can start.")
    return int(bool(bad))


def examine() -> Iterator[Finding]:
    """Yield what there is, in the order of a run: Python, packages, hardware, files."""
    root = project.root()
    yield Finding("mettrail", f"{__version__}, {root}")
    supported = sys.version_info[:2] in PYTHONS
    yield Finding(
        "Python",
        f"{platform.python_version()} ({sys.executable})" + ("" if supported else "; 3.11 or 3.12 is needed"),
        ok=supported,
    )
    yield _packages()
    yield _torch()
    yield from _machine(Path.cwd())
    yield from _networks(root)
    yield Finding("SLURM", shutil.which("sbatch") or "not here; needed for --slurm alone")


def _packages() -> Finding:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("packages", f"missing: {', '.join(missing)}. pip install mettrail again", ok=False)
    return Finding("packages", ", ".join(found))


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as err:
        return Finding("torch", f"cannot be loaded: {err}", ok=False)
    if not torch.cuda.is_available():
        return Finding("torch", f"{torch.__version__}, no GPU: networks run on the CPU, minutes a session")
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Finding("torch", f"{torch.__version__}, CUDA {torch.version.cuda}, {', '.join(names)}")


def _machine(folder: Path) -> Iterator[Finding]:
    yield Finding("cores", str(len(os.sched_getaffinity(0))))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GB
    yield Finding("memory", f"{memory:.0f} GB", remark=memory < MEMORY_GB)
    free = shutil.disk_usage(folder).free / _GB
    yield Finding("disk", f"{free:.0f} GB free in {folder}", remark=free < DISK_GB)


def _networks(root: Path) -> Iterator[Finding]:
    from mettrail import settings
    from mettrail.errors import InputError
    from mettrail.segmentation import model_folder

    shipped = yaml.safe_load((root / "config" / "config.yaml").read_text(encoding="utf-8"))
    for task, folders in settings.model_folders(shipped, root).items():
        for folder in folders:
            try:
                model_folder.read_description(folder)
                complete = any(folder.glob("fold_*/*.safetensors"))
                yield Finding(
                    f"model {task}", str(folder.absolute()) if complete else f"{folder}: no weights", ok=complete
                )
            except InputError as err:
                yield Finding(f"model {task}", " ".join(str(err).split()), ok=False)
    # Not imported, which takes seconds: deepbet keeps its weights beside its package.
    spec = find_spec("deepbet")
    weights = Path(spec.origin).parents[1] / "data" / "models" / "model.pt" if spec and spec.origin else None
    there = bool(weights and weights.exists())
    yield Finding(
        "deepbet weights", str(weights and weights.parent) if there else "missing: pip install deepbet again", ok=there
    )
    hd_bet = root / shipped["strip"]["hd_bet_weights"]
    yield Finding("HD-BET weights", str(hd_bet) if hd_bet.exists() else "not fetched; for strip.method: hd-bet alone")
