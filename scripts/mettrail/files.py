"""Files that are whole or not there, and places for them."""

from __future__ import annotations

import os
from pathlib import Path

from mettrail.errors import InputError


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file beside its place and rename it, so that no half of it is ever read; nothing where it is the same."""
    path, content = Path(path), content.encode() if isinstance(content, str) else content
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def require_empty(folder: Path) -> None:
    """Refuse a place for new files that is there and holds something.

    Raises
    ------
    InputError
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            folder,
            found="a folder or file that holds something",
            expected="a new folder, or an empty one",
            advice="Name another one, or move that away. Nothing was written.",
        )
