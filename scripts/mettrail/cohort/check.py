"""Every file that would be used is opened once, and the outcome remembered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mettrail.cohort.table import exclude
from mettrail.errors import InputError
from mettrail.images import TISSUE_LABELS, read_image, read_labels, require_same_grid


def check_files(bids: Path, rows: list[dict], sequences: list[str], checks_path: Path) -> None:
    """Open every file that would be used; remember the outcome by name, size and time."""
    memory = json.loads(checks_path.read_text()) if checks_path.exists() else {}
    jobs = {}
    for row in rows:
        if row["usable"] != "true":
            continue
        for key in ["reference", *sequences]:
            if row[key] != "n/a":
                jobs[fingerprint(bids / row[key])] = (bids / row[key], None)
        if row["labels"] != "n/a":
            labels, scan = Path(row["labels"]), bids / row["reference"]
            jobs[fingerprint(labels) + " on " + fingerprint(scan)] = (labels, scan)
    new = {key: job for key, job in jobs.items() if key not in memory}
    with ThreadPoolExecutor(max_workers=4) as pool:
        memory |= dict(zip(new, pool.map(lambda job: _check_file(*job), new.values())))
    for row in rows:
        if row["usable"] != "true":
            continue
        keys = {key: fingerprint(bids / row[key]) for key in ["reference", *sequences] if row[key] != "n/a"}
        if row["labels"] != "n/a":
            keys["labels"] = fingerprint(Path(row["labels"])) + " on " + keys["reference"]
        for key, mark in keys.items():
            problem = memory[mark]
            if problem and key in ("reference", "labels"):
                exclude(row, problem["reason"], problem["detail"])
            elif problem:
                # A session does not fall for a sequence it can be read without.
                row[key] = "n/a"
                row["flags"] = ";".join(filter(None, [row["flags"], f"{key}_{problem['reason']}"]))
    checks_path.parent.mkdir(parents=True, exist_ok=True)
    checks_path.write_text(json.dumps({key: memory[key] for key in jobs}, indent=0))


def _check_file(path: Path, on_grid_of: Path | None) -> dict | None:
    try:
        if on_grid_of is None:
            read_image(path)
        else:
            require_same_grid(read_image(on_grid_of), read_labels(path, TISSUE_LABELS))
    except InputError as err:
        detail = f"{err.what}: found {err.found}; expected {err.expected}. {err.advice}"
        return {"reason": err.reason, "detail": detail}
    return None


def fingerprint(path: Path) -> str:
    """Tell a state of a file by its path, size and time."""
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"
