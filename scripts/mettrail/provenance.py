"""Which code a result depends on.

Snakemake reruns a job when its script has changed, not when a module the script imports has. The digest of all of them,
given as a parameter, closes that gap. Comments, docstrings and layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).parent


def source_digest(script: Path) -> str:
    """Return a digest of a script's code and of every mettrail module it imports, however far down."""
    seen: dict[Path, str] = {}
    waiting = [Path(script)]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        code, imports = _read_module(path)
        seen[path] = code
        waiting += imports
    return hashlib.sha256("".join(seen[path] for path in sorted(seen)).encode()).hexdigest()[:16]


def project_digest(root: Path) -> str:
    """Return a digest of all code that makes results: rules, scripts, library."""
    code = [_read_module(path)[0] for path in sorted((root / "scripts").rglob("*.py"))]
    rules = [path.read_text() for path in [root / "Snakefile", *sorted((root / "workflow").glob("*.smk"))]]
    return hashlib.sha256("".join(code + rules).encode()).hexdigest()[:16]


@cache
def _read_module(path: Path) -> tuple[str, list[Path]]:
    tree = ast.parse(path.read_text())
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *[f"{node.module}.{alias.name}" for alias in node.names]]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    files = []
    for name in names:
        if name.split(".")[0] == "mettrail":
            place = LIBRARY.joinpath(*name.split(".")[1:])
            files += [p for p in (place.with_suffix(".py"), place / "__init__.py") if p.exists()]
    return ast.dump(tree), files
