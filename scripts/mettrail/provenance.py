"""Which code a result depends on.

Snakemake reruns a job when its script has changed, not when a module the script imports has, or a file of the project
that it reads. The digest of all of them, given as a parameter, closes that gap. Comments, docstrings and layout do not
count. Imports are found wherever they stand, within functions too; what is imported by a name that is no literal would
not be, so the library does not do that (tests/test_provenance.py).
"""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).parent
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
# What the library holds beside code: templates, style sheets and scripts of pages, licences that go with them.
_PAGE_PARTS = (".j2", ".css", ".js", ".txt")


def source_digest(script: Path, *, data: Iterable[Path] = ()) -> str:
    """Return a digest of a script's code and of every mettrail module it imports, however far down.

    Parameters
    ----------
    script : Path
    data : paths
        Files, and folders with all that is in them, of the project that the script reads.
    """
    seen: dict[Path, str] = {}
    waiting = [Path(script)]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen[path], names = _read_code(path.read_text(encoding="utf-8"))
        waiting += [file for name in names for file in _files_of(LIBRARY, name)]
    digest = hashlib.sha256("".join(seen[path] for path in sorted(seen)).encode())
    for path in data:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()[:16]


def project_digest(root: Path) -> str:
    """Return a digest of all that makes results: rules, scripts, library (which may be installed elsewhere), pages."""
    library = sorted(LIBRARY.rglob("*"))
    files = [*sorted((root / "scripts").glob("*.py")), *(path for path in library if path.suffix == ".py")]
    code = [_read_code(path.read_text(encoding="utf-8"))[0] for path in files]
    rules = [root / "Snakefile", *sorted((root / "workflow").glob("*.smk"))]
    pages = [path for path in library if path.suffix in _PAGE_PARTS]
    texts = [path.read_text(encoding="utf-8") for path in rules + pages]
    return hashlib.sha256("".join(code + texts).encode()).hexdigest()[:16]


def find_commit(root: Path) -> str:
    """Return the commit of a checkout, ``-dirty`` where files were changed since; empty where it, or git, is none."""
    if not (root / ".git").exists():  # git would look further up, in a repository of others
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def find_container() -> str:
    """Return the kind of container that this runs in, as our recipes say it (METTRAIL_CONTAINER); empty outside."""
    return os.environ.get("METTRAIL_CONTAINER", "")


@cache
def _read_code(text: str) -> tuple[str, frozenset[str]]:
    """Return a module's code without docstrings and layout, and the names it imports."""
    # In one pass, as every start of the workflow reads the whole library.
    code: list[str] = []
    names: list[str] = []
    waiting: list[object] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            code.append(f"[{len(node)}]")
            waiting += node
            continue
        if not isinstance(node, ast.AST):
            code.append(repr(node))
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        code.append(type(node).__name__)
        waiting += [getattr(node, field, None) for field in node._fields]
    return " ".join(code), frozenset(name for name in names if name.split(".")[0] == "mettrail")


@cache
def _files_of(library: Path, name: str) -> list[Path]:
    """Return the files that are run when a module of the library is imported: its own and those of its packages.

    The library's own ``__init__`` has the version and nothing else: it counts where it is asked for by name.
    """
    parts = name.split(".")[1:]
    places = [library.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists()]
    return files or [library / "__init__.py"]
