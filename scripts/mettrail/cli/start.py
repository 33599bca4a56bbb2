"""What comes before a first run: a file of settings, and weights that may not be shipped."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from mettrail import __version__, project, weights
from mettrail.errors import InputError

HEADER = """\
# Settings of mettrail {version}: all there are, as shipped. Keep what you change and delete the rest.
#     mettrail run BIDS OUT --settings {name}
"""


def write_settings(path: Path) -> None:
    """Write all settings with what is said of each, under a header of its own.

    Raises
    ------
    InputError
        Something of that name is there.
    """
    # The header of the original speaks of the original.
    _, _, body = (project.root() / "config" / "config.yaml").read_text(encoding="utf-8").partition("\n\n")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(f"{HEADER.format(version=__version__, name=path)}\n{body}")
    except FileExistsError as err:
        raise InputError(
            path, found="a file of that name", expected="a new one", advice="Name another: mettrail init FILE"
        ) from err
    except OSError as err:
        raise InputError(
            path, found=str(err), expected="a folder to write to", advice="Name another file: mettrail init FILE"
        ) from err
    print(f"{path}: every setting. mettrail run BIDS OUT --settings {path}")


def fetch(path: Path | None) -> None:
    """Fetch HD-BET's weights to where the settings expect them, or to a path.

    Raises
    ------
    InputError
        No network, not the published file, or a folder nobody may write to.
    """
    root = project.root()
    shipped = yaml.safe_load((root / "config" / "config.yaml").read_text(encoding="utf-8"))
    to = path or root / shipped["strip"]["hd_bet_weights"]
    there = next(folder for folder in to.absolute().parents if folder.exists())
    if not os.access(there, os.W_OK):
        raise InputError(
            to,
            found=f"the folder {there}, which you may not write to",
            expected="one you may write to",
            advice="mettrail fetch FILE, and name the file in strip.hd_bet_weights.",
        )
    weights.fetch_weights("hd-bet", root / "resources" / "weights.yaml", to)
    print(f"{to}: HD-BET's weights. Use them with strip.method: hd-bet.")
