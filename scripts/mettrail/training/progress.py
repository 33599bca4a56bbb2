"""Progress of trainings that do not run in nnU-Net's own trainer."""

from __future__ import annotations

from pathlib import Path


class Log:
    """Lines of progress, in a file and on the terminal; what was there before stays."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def add(self, line: str) -> None:
        """Add a line."""
        print(line, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
