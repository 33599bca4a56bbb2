"""Which model runs on which session: by the sequences a session has, said before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mettrail import cohort
from mettrail.errors import ModelError
from mettrail.reasons import Reason
from mettrail.segmentation.fusion import OPTIONAL, needed
from mettrail.segmentation.model_folder import DESCRIPTION, POST_CONTRAST, PRIOR, lacking_channels, read_description


def choose_models(
    table: pd.DataFrame,
    models: Mapping[str, Sequence[Path]],
    *,
    fusion_rule: str,
    reference: str,
    sequences: Sequence[str],
) -> tuple[pd.DataFrame, dict[tuple[str, str], dict[str, Path | None]]]:
    """Take, per session and task, the first model all of whose channels the session has.

    Which tasks a session needs, on a first visit and with a usable session before, is up to the fusion. A session that
    no model of a task fits is excluded like one whose scan cannot be read; one with a provided segmentation needs no
    model, and none needs one of `fusion.OPTIONAL`.

    Parameters
    ----------
    table : cohort table
    models : mapping
        ``detection``, ``detection_sensitive``, ``resegmentation``, ``edema``: model folders, the one to prefer first.
    fusion_rule : str
        See `fusion.needed`.
    reference : str
        The image lesions are measured on. A plain ``T1w`` stands in for a post-contrast channel.
    sequences : list of str
        Columns of the table with other images.

    Returns
    -------
    table : cohort table
        Sessions no model fits are not usable, ``no_model``, and the detail says what they have and the models want.
    chosen : {(sub, ses): {task: folder}}
        None for a task that no model is for: with a provided segmentation, or where it is optional.

    Raises
    ------
    ModelError
        A listed folder that is no model, or one of another task.
    """
    listed = {task: {folder: _read_for(task, folder) for folder in folders} for task, folders in models.items()}
    table, chosen = table.copy(), {}
    for _, visits in table.groupby("sub", sort=False):
        followup = False
        for index, row in visits.iterrows():
            if row["usable"] != "true":
                continue
            has = [reference, *([POST_CONTRAST] if reference == "T1w" else [])]
            has += [name for name in sequences if row[name] != "n/a"]
            tasks = [task for task in needed(fusion_rule, followup=followup) if task in listed]
            fitting = {task: _first_fitting(listed[task], [*has, PRIOR]) for task in tasks}
            unfit = [task for task, folder in fitting.items() if folder is None and task not in OPTIONAL]
            if unfit and row["labels"] == "n/a":
                wanted = "; ".join(
                    f"{folder} wants {', '.join(lacking_channels(described, [PRIOR]))}"
                    for folder, described in listed[unfit[0]].items()
                )
                detail = (
                    f"sub-{row['sub']}_ses-{row['ses']} has {', '.join(has)}, and no {unfit[0]} model fits: {wanted}. "
                    f"Add a sequence, or list a model that does without under segment: models: {unfit[0]}."
                )
                table.loc[index, ["usable", "reason", "detail"]] = ["false", Reason.NO_MODEL.value, detail]
                continue
            chosen[row["sub"], row["ses"]] = fitting
            followup = True
    return cohort.name_priors(table), chosen


def _first_fitting(listed: Mapping[Path, dict[str, Any]], available: Sequence[str]) -> Path | None:
    return next((folder for folder, described in listed.items() if not lacking_channels(described, available)), None)


def _read_for(task: str, folder: Path) -> dict[str, Any]:
    description = read_description(folder)
    if description["task"] != task.removesuffix("_sensitive"):
        raise ModelError(
            folder / DESCRIPTION,
            found=f"a model for {description['task']}",
            expected=f"one for {task}, for it is listed under segment: models: {task}",
            advice="Move it to the list of its own task.",
            reason=Reason.BAD_MODEL,
        )
    return description
