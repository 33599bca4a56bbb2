"""Where the project's own files are: Snakefile, rules, scripts, settings, models."""

from __future__ import annotations

from pathlib import Path

_LIBRARY = Path(__file__).parent


def root() -> Path:
    """Return the folder of the Snakefile: around the library in a checkout, inside it once installed (see setup.py)."""
    installed = _LIBRARY / "project"
    return installed if installed.is_dir() else _LIBRARY.parents[1]
