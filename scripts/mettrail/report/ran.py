"""What ran, as its results tell.

Settings say what was asked for; a session's scans, its manual segmentations and failures may have changed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mettrail import jobs, sidecars

Files = Sequence[str | Path]


@dataclass(frozen=True)
class Network:
    """A model folder that was run, the sequences it was given beside the reference image, and on how many sessions."""

    task: str
    name: str
    sha256: str
    licence: str
    trained_on: str
    candidate_threshold: float | None
    calibrated: bool
    threshold: float
    edge_threshold: float | None
    sequences: tuple[str, ...]
    sessions: int


@dataclass(frozen=True)
class Ran:
    """What the sessions of a run went through. All mappings count sessions, but for `places`, which counts patients.

    Parameters
    ----------
    patients, sessions, manual : int
        Patients and sessions with lesion labels; of the sessions, those with provided segmentations.
    brains, compared : mapping
        By method: whose mask was taken, and which was run beside it.
    replaced, stripped, judged : int
        Masks that are the second method's; scans that were extracted brains already, without being said to be; masks
        that were compared with the template.
    priors, references, places, sequences : mapping
        By engine: registrations of the prior session, to the patient's reference space, of the patient to the atlas
        (that hold), and of further sequences to the reference image.
    modalities : tuple of str
        Those sequences.
    networks : tuple of Network
    fused : mapping
        By what gave the lesions: ``both`` networks, ``detection``, ``resegmentation`` or ``propagation``.
    looked_again : int
        Sessions whose scans detection has seen at their own resolution, too.
    in_cavities, after_surgery : int
        Sessions with a component that is lesion or resection cavity; of these, after surgery on record.
    features : str
        Version of MIRP, where radiomics features were computed; else empty.
    """

    patients: int
    sessions: int
    manual: int
    brains: Mapping[str, int]
    compared: Mapping[str, int]
    replaced: int
    stripped: int
    judged: int
    priors: Mapping[str, int]
    references: Mapping[str, int]
    places: Mapping[str, int]
    sequences: Mapping[str, int]
    modalities: tuple[str, ...]
    networks: tuple[Network, ...]
    fused: Mapping[str, int]
    looked_again: int
    in_cavities: int
    after_surgery: int
    features: str

    @property
    def by_networks(self) -> int:
        """Sessions whose lesions networks found."""
        return self.sessions - self.manual - self.fused.get("propagation", 0)

    @property
    def engines(self) -> set[str]:
        """Registration engines of all stages; the atlas for brains is always registered by greedy."""
        found = {*self.priors, *self.references, *self.places, *self.sequences}
        return found | ({"greedy"} if "atlas" in {*self.brains, *self.compared} else set())


def read_ran(
    *,
    brains: Files,
    priors: Files,
    references: Files,
    places: Files,
    sequences: Files,
    labels: Files,
    features: Files,
) -> Ran:
    """Read what ran from the JSON that each stage left beside its results; what failed or was skipped has left none.

    Parameters
    ----------
    brains, priors, references, places, sequences, labels, features : sequence of paths
        Of brain masks, registrations of prior sessions, registrations to the reference space, registrations to the
        atlas, further sequences (named by their suffix), lesion labels, and tables of radiomics features.
    """
    masks = [sidecars.read_json(path) for path in jobs.complete(brains)]
    tissues = [sidecars.read_json(path) for path in jobs.complete(labels)]
    brought = jobs.complete(sequences)
    tools = [tool for path in features for tool in sidecars.read_json(path)["GeneratedBy"]]
    return Ran(
        patients=len({Path(path).name.split("_")[0] for path in jobs.complete(labels)}),
        sessions=len(tissues),
        manual=sum(tissue["Manual"] for tissue in tissues),
        brains=Counter(mask["method"] for mask in masks),
        compared=Counter(mask["other_method"] for mask in masks if "other_method" in mask),
        replaced=sum("brain_replaced" in mask["flags"] for mask in masks),
        stripped=sum("brain_stripped" in mask["flags"] for mask in masks),
        judged=sum(mask["fit"] is not None for mask in masks),
        priors=_engines(priors),
        references=_engines(references),
        places=_engines(_usable(places)),
        sequences=_engines(brought),
        modalities=tuple(dict.fromkeys(Path(path).stem.split("_")[-1] for path in brought)),
        networks=_networks(tissues),
        fused=Counter(_fused(tissue) for tissue in tissues if not tissue["Manual"]),
        looked_again=sum(tissue["FullResolution"] for tissue in tissues),
        in_cavities=sum(tissue["LesionsInCavities"] > 0 for tissue in tissues),
        after_surgery=sum(tissue["LesionsInCavities"] > 0 and tissue["SurgeryBefore"] for tissue in tissues),
        features=next((tool["Version"] for tool in tools if tool["Name"] == "MIRP"), ""),
    )


def _engines(paths: Files) -> Counter[str]:
    """Count engines; a patient's first session is in its own space, by none."""
    found = [sidecars.read_json(path)["engine"] for path in jobs.complete(paths)]
    return Counter(engine for engine in found if engine != "none")


def _usable(paths: Files) -> list[str | Path]:
    """Return registrations to the atlas that are used: where one fails, the patient's lesions have no region."""
    return [path for path in jobs.complete(paths) if sidecars.read_json(path)["status"] == "ok"]


def _networks(tissues: Iterable[Mapping[str, Any]]) -> tuple[Network, ...]:
    ran = [(task, facts) for tissue in tissues for task, facts in tissue["Networks"].items()]
    counts = Counter((task, facts["SHA256"]) for task, facts in ran)
    networks = []
    for task, sha256 in sorted(counts):
        same = [facts for of, facts in ran if (of, facts["SHA256"]) == (task, sha256)]
        networks.append(
            Network(
                task,
                same[0]["Name"],
                sha256,
                same[0]["Licence"],
                same[0]["TrainedOn"],
                same[0]["CandidateThreshold"],
                same[0]["Calibration"] is not None,
                same[0]["Threshold"],
                same[0]["EdgeThreshold"],
                tuple(dict.fromkeys(name for facts in same for name in facts["Sequences"])),
                counts[task, sha256],
            )
        )
    return tuple(networks)


def _fused(tissue: Mapping[str, Any]) -> str:
    """Say what gave a session's lesions."""
    tasks = {"detection", "resegmentation"} & set(tissue["Networks"])
    return "both" if len(tasks) == 2 else tasks.pop() if tasks else "propagation"
