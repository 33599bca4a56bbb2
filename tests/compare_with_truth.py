"""Hold a finished run against the truth of the phantom it ran on: python tests/compare_with_truth.py BIDS OUT

Uses nothing of the library: masks are compared voxel by voxel, identities by which track lies on which true lesion.
Exits with 1 where a lesion of 5 mm or more was not found or changed its number, a volume over 0.5 mL is 15 % off, an
event (new, absent, merged ...), the fate of a treated lesion or a response is not the one the phantom was made for;
false lesions, and candidates that are none, are only listed. Nothing needs to be found at a visit that is not
evaluable; whether it had to be, the responses tell.
"""

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

MIN_DIAMETER_MM = 5.0
MIN_VOLUME_MM3 = 500.0
MAX_VOLUME_ERROR = 0.15


def compare(bids: Path, out: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Return per lesion and session what was true and what was found, the responses, and all that is wrong."""
    truth_folder = bids / "derivatives" / "truth-instances"
    truth = pd.read_csv(truth_folder / "lesions.tsv", sep="\t", na_values="n/a")
    responses = pd.read_csv(truth_folder / "responses.tsv", sep="\t", na_values="n/a", keep_default_na=False)
    evaluable, roles = read_evaluable(out), read_roles(out)
    rows, false = [], []
    for (sub, ses), lesions in truth.groupby(["participant_id", "session_id"], sort=False):
        true_map = load(truth_folder, sub, ses, "desc-lesions_dseg.nii.gz")
        found_map = load(out, sub, ses, "desc-lesions_dseg.nii.gz")
        tissue = load(out, sub, ses, "desc-tissue_dseg.nii.gz")
        names = pd.read_csv(path_of(out, sub, ses, "desc-lesions_dseg.tsv"), sep="\t").set_index("index")["name"]
        voxel = voxel_volume(out, sub, ses)
        whole = np.isin(tissue, (1, 3))
        for lesion in lesions.to_dict("records"):
            inside = true_map == lesion["lesion_id"]
            here = found_map[inside & whole]
            tracks = np.bincount(here[here > 0]) if (here > 0).any() else np.zeros(0, int)
            index = int(tracks.argmax()) if tracks.size else 0
            mine = (found_map == index) & whole if index else np.zeros_like(whole)
            overlap, total = int((mine & inside).sum()), int(mine.sum() + inside.sum())
            rows.append(
                {
                    **{key: lesion[key] for key in ("participant_id", "session_id", "lesion_id", "diameter_mm")},
                    "evaluable": evaluable[sub, ses],
                    "true_mm3": inside.sum() * voxel,
                    "track": names.get(index, "") if index else "",
                    "found_mm3": mine.sum() * voxel,
                    "dice": 2 * overlap / total if total else float("nan"),
                }
            )
        on_truth = set(np.unique(found_map[true_map > 0])) - {0}
        for index in sorted(set(np.unique(found_map)) - on_truth - {0}):
            # A candidate is a suspicion, and counts in no response.
            what = "candidate" if roles[sub, ses, names[index]] == "candidate" else "false"
            false.append(f"{what}: {sub} {ses} {names[index]}")
    table = pd.DataFrame(rows)
    return table, judge_responses(out, responses), judge(table) + false


def judge(table: pd.DataFrame) -> list[str]:
    """Say what is wrong with lesions: not found, another number than before, or one number for two, wrong volume."""
    wrong = []
    for (sub, lesion), rows in table[(table.true_mm3 > 0) & table.evaluable].groupby(["participant_id", "lesion_id"]):
        large = rows[rows.diameter_mm >= MIN_DIAMETER_MM]
        wrong += [f"not found: {sub} {row.session_id} lesion {lesion}" for row in large[large.track == ""].itertuples()]
        tracks = sorted(set(rows.track) - {""})
        if len(tracks) > 1:
            wrong.append(f"changes its number: {sub} lesion {lesion}: {tracks}")
        for row in rows[(rows.true_mm3 > MIN_VOLUME_MM3) & (rows.track != "")].itertuples():
            error = row.found_mm3 / row.true_mm3 - 1
            if abs(error) > MAX_VOLUME_ERROR:
                wrong.append(f"volume: {sub} {row.session_id} lesion {lesion}: {error:+.1%}")
    named = table[table.track != ""].groupby(["participant_id", "track"]).lesion_id.nunique()
    wrong += [f"one number for several lesions: {sub} {track}" for sub, track in named[named > 1].index]
    return wrong


def compare_events(bids: Path, out: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Put what the lesion table says happened to each lesion beside what did; `table` is the first of `compare`."""
    truth = pd.read_csv(bids / "derivatives" / "truth-instances" / "lesions.tsv", sep="\t", keep_default_na=False)
    found = pd.read_csv(out / "tables" / "lesions.csv", keep_default_na=False)
    found = found.set_index(["participant_id", "session_id", "track_id"])[["event", "merged_into"]]
    evaluable = read_evaluable(out)
    named = table[table.track != ""].groupby(["participant_id", "lesion_id"]).track.first()
    rows = []
    for (sub, lesion), visits in truth[truth.event != "n/a"].groupby(["participant_id", "lesion_id"], sort=False):
        track = named.get((sub, lesion), "")
        before = None
        for visit in visits.to_dict("records"):
            event, here = visit["event"], (sub, visit["session_id"])
            # What comes out of a merge has parted from the other; pieces are parted once.
            if event in ("persist", "split") and before == "merged_into":
                event = "split"
            elif event == before == "split":
                event = "persist"
            before = visit["event"]
            row = {"participant_id": sub, "session_id": visit["session_id"], "lesion_id": lesion, "track": track}
            row["event"] = event if evaluable[here] else "not_evaluable"
            row["into"] = "" if visit["into"] == "n/a" else named.get((sub, int(visit["into"])), "")
            given = found.loc[(*here, track)] if (*here, track) in found.index else {"event": "", "merged_into": ""}
            rows.append(row | {"found_event": given["event"], "found_into": given["merged_into"]})
    return pd.DataFrame(rows)


def judge_events(events: pd.DataFrame) -> list[str]:
    """Say of which lesions the table tells another story than the truth."""
    off = events[(events.event != events.found_event) | (events.into != events.found_into)]
    return [
        f"event: {r.participant_id} {r.session_id} lesion {r.lesion_id}: "
        f"found {r.found_event} {r.found_into}, true {r.event} {r.into}"
        for r in off.itertuples()
    ]


def judge_treatments(bids: Path, out: Path, table: pd.DataFrame) -> list[str]:
    """Say of which treated lesions another story is told than the truth's; `table` is the first of `compare`."""
    truth = pd.read_csv(bids / "derivatives" / "truth-instances" / "treatments.tsv", sep="\t", na_values="n/a")
    found = pd.read_csv(out / "tables" / "treated_lesions.csv")
    days = pd.read_csv(out / "tables" / "sessions.csv").set_index(["participant_id", "session_id"])["days_from_t0"]
    named = table[table.track != ""].groupby(["participant_id", "lesion_id"]).track.first()
    expected = {
        (row.participant_id, str(row.treatment_id), named.get((row.participant_id, row.lesion_id), "")): (
            None if pd.isna(row.failed_session) else days[row.participant_id, row.failed_session]
        )
        for row in truth.itertuples()
    }
    told = {
        (row.participant_id, str(row.treatment_id), row.track_id): (
            None if pd.isna(row.local_failure_day) else row.local_failure_day
        )
        for row in found.itertuples()
    }
    return [
        f"treated: {' '.join(key)}: fails on {told.get(key, 'no row')}, true {expected.get(key, 'no row')}"
        for key in sorted(expected | told)
        if key not in told or key not in expected or told[key] != expected[key]
    ]


def read_evaluable(out: Path) -> dict[tuple[str, str], bool]:
    """Return of every visit in the tables whether it was evaluable."""
    found = pd.read_csv(out / "tables" / "sessions.csv")
    return found.set_index(["participant_id", "session_id"])["evaluable"].to_dict()


def read_roles(out: Path) -> dict[tuple[str, str, str], str]:
    """Return what every lesion of every visit is to the response: target, candidate..."""
    found = pd.read_csv(out / "tables" / "lesions.csv", keep_default_na=False)
    return found.set_index(["participant_id", "session_id", "track_id"])["role"].to_dict()


def judge_responses(out: Path, expected: pd.DataFrame) -> pd.DataFrame:
    """Put the responses of the tables beside the expected ones."""
    found = pd.read_csv(out / "tables" / "sessions.csv", keep_default_na=False)
    columns = ["participant_id", "session_id", "response_imaging_final"]
    return expected.merge(found[columns], on=columns[:2], how="left")


def path_of(folder: Path, sub: str, ses: str, name: str) -> Path:
    """Return the path of a session's file."""
    return folder / sub / ses / "anat" / f"{sub}_{ses}_{name}"


def load(folder: Path, sub: str, ses: str, name: str) -> np.ndarray:
    """Load a label map."""
    return np.asarray(nib.load(path_of(folder, sub, ses, name)).dataobj).astype(int)


def voxel_volume(folder: Path, sub: str, ses: str) -> float:
    """Return mm3 per voxel."""
    return float(abs(np.linalg.det(nib.load(path_of(folder, sub, ses, "desc-tissue_dseg.nii.gz")).affine[:3, :3])))


if __name__ == "__main__":
    lesions, responses, wrong = compare(Path(sys.argv[1]), Path(sys.argv[2]))
    print(lesions.to_string(index=False, float_format="%.2f"))
    print(responses.to_string(index=False))
    wrong += judge_events(compare_events(Path(sys.argv[1]), Path(sys.argv[2]), lesions))
    wrong += judge_treatments(Path(sys.argv[1]), Path(sys.argv[2]), lesions)
    off = responses[responses.expected.ne("") & responses.expected.ne(responses.response_imaging_final)]
    wrong += [f"response: {r.participant_id} {r.session_id}: {r.response_imaging_final}" for r in off.itertuples()]
    print("\n".join(wrong) or "everything as it was made")
    sys.exit(any(not line.startswith(("false", "candidate")) for line in wrong))
