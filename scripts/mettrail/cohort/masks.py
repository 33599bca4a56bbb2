"""Manual segmentations: which session they belong to.

Of a folder that was named, every file is used, or listed as not recognised with the reason: where a segmentation is
ignored in silence the networks run instead, and nobody notices.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from mettrail.cohort.scans import LABEL, SCAN_ENDINGS, Entry, read_name, walk
from mettrail.cohort.table import Row, Unused, exclude, leave_unused
from mettrail.errors import InputError
from mettrail.reasons import Reason

# Formats of other programs; named in the message, never read.
ENDINGS = (*SCAN_ENDINGS, ".nrrd", ".mha", ".mgz", ".img")
SUFFIXES = ("dseg", "mask")
LAYOUT = "sub-X/ses-Y/anat/sub-X_ses-Y_dseg.nii.gz (or _mask.nii.gz; anat/ is optional)"
_PLACE = re.compile(r"sub-(?P<sub>[^/]+)/(?:ses-(?P<ses>[^/]+)/)?(?:anat/)?(?P<name>[^/]+)")


def list_masks(folder: Path) -> list[Entry]:
    """List the files of a folder of manual segmentations.

    Raises
    ------
    InputError
        No such folder.
    """
    if not folder.is_dir():
        raise InputError(
            f"config: labels.folder = {folder}",
            found="no such folder",
            expected=f"a derivatives folder with {LAYOUT}",
            advice="Correct labels.folder, or leave it empty.",
        )
    return walk(folder, endings=ENDINGS)


def find_masks(
    folder: Path, entries: Iterable[Entry], sessions: dict[str, list[str]]
) -> tuple[dict[tuple[str, str], list[str]], list[Unused]]:
    """Find the sessions whose segmentations a folder holds.

    Parameters
    ----------
    folder : Path
    entries : list of Entry
        Of `list_masks`.
    sessions : dict
        The sessions of each patient of the dataset.

    Returns
    -------
    masks : dict
        Paths by session.
    not_used : list of dict
        Files that were not recognised (``mask_not_recognised``) or belong to no session (``nobody``).

    Raises
    ------
    InputError
        Not one file was recognised.
    """
    masks: dict[tuple[str, str], list[str]] = {}
    not_used, recognised = [], 0
    files = [entry.path for entry in entries if entry.path.lower().endswith(ENDINGS)]
    for path in files:
        outcome = _read_place(path)
        if isinstance(outcome, str):
            not_used.append(leave_unused(str(folder / path), "n/a", Reason.MASK_NOT_RECOGNISED, outcome))
            continue
        recognised += 1
        sub, ses = outcome
        mine = sessions.get(sub, [])
        # Without a session in its name, a segmentation belongs to the only session there is.
        if ses is None and len(mine) == 1:
            ses = mine[0]
        if ses in mine:
            masks.setdefault((sub, ses), []).append(str((folder / path).absolute()))
        elif ses is None and mine:
            detail = f"no ses- in a name of sub-{sub}, who has {len(mine)} sessions; expected {LAYOUT}"
            not_used.append(leave_unused(str(folder / path), sub, Reason.MASK_NOT_RECOGNISED, detail))
        else:
            whose = f"sub-{sub}" if ses is None else f"sub-{sub}_ses-{ses}"
            detail = f"a segmentation of {whose}, who is not in the dataset; correct its name, or take it away."
            not_used.append(leave_unused(str(folder / path), sub, Reason.NOBODY, detail))
    if not recognised:
        shown = f": {', '.join(files[:3])}{', …' if len(files) > 3 else ''}" if files else ""
        why = f" ({not_used[0]['detail']})" if not_used else ""
        raise InputError(
            f"config: labels.folder = {folder}",
            found=f"{len(files)} files of images, none of them recognised as the segmentation of a session{shown}{why}",
            expected=LAYOUT,
            advice="Rename the files (in ITK-SNAP and 3D Slicer: save as NIfTI under this name), or leave "
            "labels.folder empty to have the networks segment.",
        )
    return masks, not_used


def _read_place(path: str) -> tuple[str, str | None] | str:
    """Return patient and session of a segmentation, or why it is not recognised."""
    place = _PLACE.fullmatch(path)
    if path.rpartition("/")[2].startswith("."):
        return "a hidden file, as macOS leaves on disks; delete it"
    if not path.endswith(SCAN_ENDINGS):
        return f"no NIfTI file; expected {LAYOUT}"
    if not place:
        return f"not in a folder of a patient; expected {LAYOUT}"
    parsed = read_name(place["name"])
    if isinstance(parsed, str):
        return parsed
    entities, suffix = parsed
    if suffix not in SUFFIXES:
        return f"the name ends in _{suffix}; expected _dseg or _mask"
    # A brain mask often lies beside the segmentation of the lesions.
    if entities.get("desc") == "brain" or entities.get("label") == "brain":
        return "a brain mask by its name"
    ses = entities.get("ses")
    if entities["sub"] != place["sub"] or (place["ses"] and ses and place["ses"] != ses):
        return f"the folder and the name are of different patients or sessions; expected {LAYOUT}"
    ses = ses or place["ses"]
    if ses is not None and not LABEL.fullmatch(ses):
        return f"the label ses-{ses}; expected letters and digits only"
    return place["sub"], ses


def choose_sessions(
    entries: list[str], sessions: Mapping[str, Collection[str]], *, setting: str = "labels.sessions"
) -> set[tuple[str, str]]:
    """Return the sessions that a setting names: ``01``, ``ses-01`` or ``sub-A_ses-01``.

    YAML reads 01 as the number 1: where no session is called so, leading zeros do not count.

    Raises
    ------
    InputError
        An entry that names nobody, or more than one label.
    """
    chosen = set()
    for entry in map(str, entries):
        sub, _, ses = entry.rpartition("_") if entry.startswith("sub-") else ("", "", entry)
        ses, sub = ses.removeprefix("ses-"), sub.removeprefix("sub-")
        of = [(who, label) for who, labels in sessions.items() if sub in ("", who) for label in labels]
        exact = [(who, label) for who, label in of if label == ses]
        near = [(who, label) for who, label in of if label.lstrip("0") == ses.lstrip("0")]
        taken = exact or near
        labels = sorted({f"ses-{label}" for _, label in taken})
        if len(labels) != 1:
            known = sorted({f"ses-{label}" for _, label in of}) or sorted(f"sub-{who}" for who in sessions)
            raise InputError(
                f"config: {setting}, {entry!r}",
                found=f"more than one label: {', '.join(labels)}" if labels else "no session of that name",
                expected=f"one of {', '.join(known[:20])}{', …' if len(known) > 20 else ''}, or sub-X_ses-Y",
                advice='Put labels in quotes ("01"), as they stand in the names of the folders.',
            )
        chosen |= set(taken)
    return chosen


def give_mask(row: Row, masks: list[str], *, folder: str, required: bool) -> None:
    """Fill in the session's segmentation, or exclude the session with the reason."""
    if len(masks) == 1:
        row["labels"] = masks[0]
    elif len(masks) > 1:
        exclude(
            row,
            Reason.AMBIGUOUS_LABELS,
            f"{len(masks)} segmentations for one session: {', '.join(masks)}; expected one. Keep the right one.",
        )
    elif required:
        exclude(
            row,
            Reason.NO_LABELS,
            f"labels.sessions names this session, but {folder} holds no segmentation of "
            f"sub-{row['sub']}_ses-{row['ses']}; expected {LAYOUT}. Add it or take the session off the list.",
        )
