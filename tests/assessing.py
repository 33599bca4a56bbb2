"""Patients in one line: diameters per lesion and session, and the response that follows from them."""

import math

import pandas as pd
from conftest import settings_of
from mettrail.response import course, rano
from mettrail.response.rules import Rules

RANO, VOLUME = settings_of("rano"), settings_of("volume")
NE = "not_evaluable"


def rules_with(*, volume=VOLUME, **settings):
    """The settings as they are, but for some of ``rano``."""
    return Rules.of(rano=RANO | settings, volume=volume)


def cell(session, track, given):
    """One row of the matching: a diameter, 0 for absent, NE, "L001" for merged into it, or a dict of columns."""
    row = {"participant_id": "sub-1", "session_id": session, "track_id": track, "status": "present", "event": "persist"}
    row |= {"perp_mm": 9.0, "n_slices": 3, "n_components": 1, "slice_spacing_mm": 1.0}
    row = dict.fromkeys(course.NEEDED) | {f"bbox_{axis}_vox": 9 for axis in "xyz"} | row
    row |= {"enhancing": True, "touches_border": False, "probable_missed_detection": False, "match_method": "overlap"}
    if given == NE:
        return row | {"status": NE, "event": NE, "enhancing": None}
    if isinstance(given, str):
        return row | {"status": "merged", "event": "merged_into", "merged_into": given, "enhancing": None}
    given = given if isinstance(given, dict) else {"ld_mm": given}
    if given["ld_mm"] == 0:
        return row | {"status": "absent", "event": "absent", "ld_mm": 0.0, "enhancing": None}
    row["vol_wl_mm3"] = math.pi / 6 * given["ld_mm"] ** 3
    return row | {"vol_et_mm3": row["vol_wl_mm3"], "vol_nc_mm3": 0.0, "vol_ed_mm3": 0.0} | given


def assess(
    tracks,
    days=None,
    *,
    evaluable=None,
    participant=(),
    columns=(),
    overrides=None,
    comparisons=None,
    frozen=None,
    volume=VOLUME,
    **settings,
):
    """Assess a patient given {track: [cell per session]}, None before a lesion is first detected."""
    n = max((len(cells) for cells in tracks.values()), default=0) if days is None else len(days)
    days = [30 * t for t in range(n)] if days is None else days
    evaluable = [True] * n if evaluable is None else evaluable
    sessions = pd.DataFrame(
        [
            {
                "session_id": f"ses-{t}",
                "order": t + 1,
                "days": d,
                "evaluable": e,
                "ne_reason": "n/a" if e else "no_contrast",
            }
            for t, (d, e) in enumerate(zip(days, evaluable, strict=True))
        ],
        columns=["session_id", "order", "days", "evaluable", "ne_reason"],
    ).assign(**dict(columns))
    lesions = pd.DataFrame(
        [
            cell(f"ses-{t}", track, given)
            for track, cells in tracks.items()
            for t, given in enumerate(cells)
            if given is not None and evaluable[t]
        ]
    )
    lesion_rows, session_rows, patient = rano.assess_patient(
        lesions, sessions, {"participant_id": "sub-1"} | dict(participant), rules=rules_with(volume=volume, **settings),
        overrides=None if overrides is None else pd.DataFrame(overrides),
        comparisons=None if comparisons is None else pd.DataFrame(comparisons), frozen=frozen,
    )  # fmt: skip
    return lesion_rows, session_rows.set_index("session_id", drop=False), patient.iloc[0]


def last(session_rows, column):
    """The cell of a column at the last session."""
    value = session_rows[column].iloc[-1]
    return "n/a" if pd.isna(value) else value
