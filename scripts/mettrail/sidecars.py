"""JSON beside the images: what BIDS asks of derivatives, and the small facts one stage leaves for another."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mettrail.colours import TISSUE_COLOURS, track_colour, track_index

WORKING_GRID = {"Resolution": "1 mm isotropic, axes parallel to those of the reference image"}
# Said once at the top of the dataset for all files of a kind; what is particular to one file stands beside it.
_INHERITED: dict[str, dict[str, Any]] = {
    **{
        f"res-1mm_desc-{desc}_{suffix}": WORKING_GRID | {"SkullStripped": stripped, "Description": text}
        for suffix in ("T1w", "T2w", "FLAIR")
        for desc, stripped, text in (
            ("debias", False, "N4 bias corrected, whole head"),
            ("preproc", True, "N4 bias corrected, 0 outside the brain mask grown by a few mm"),
            ("prior", True, "The prior session's scan, registered deformably to this one"),
        )
    },
    "res-1mm_desc-brain_mask": WORKING_GRID | {"Type": "Brain"},
    "res-1mm_desc-prior_dseg": WORKING_GRID | {"Description": "The prior session's lesions, propagated to this one"},
    "desc-components_dseg": {
        "Description": "Connected components of lesions on the reference image's own grid",
        "Type": "Lesion",
        "mean_probability": {"Description": "Mean probability of whole lesion in the component's voxels"},
        "confidence": {
            "Description": "Probability that the component is a lesion, by the detection model's calibration"
        },
        "detected_by": {"Description": "Networks that detect the component; manual for provided segmentations"},
        "certainty": {"Description": "confirmed: certain enough to count; candidate: a suspicion only"},
    },
    "desc-instances_dseg": {
        "Description": "This session's lesions, as in desc-instances_measures.tsv, on the reference image's own grid",
        "Type": "Lesion",
    },
    "desc-lesions_dseg": {
        "Description": "Lesions by persistent lesion ID, as in the table beside, on the reference image's own grid",
        "Type": "Lesion",
    },
    "desc-lesion_probseg": {"Description": "Probability of whole lesion on the reference image's own grid"},
    "res-1mm_probseg": WORKING_GRID | {"Description": "Background, enhancing, edema, necrosis, cavity: fourth axis"},
}
TISSUE: dict[str, Any] = {
    "Description": "Lesion tissue on the reference image's own grid",
    "Type": "Lesion",
    "Labels": {"1": "enhancing", "2": "edema", "3": "necrosis", "4": "cavity"},
}

# Lookup tables that hold for all label maps of their name.
_TISSUE_TABLE = [
    ("index", "name", "color"),
    *((index, name, TISSUE_COLOURS[name]) for index, name in TISSUE["Labels"].items()),
]
_LOOKUP = {"desc-tissue_dseg": _TISSUE_TABLE, "res-1mm_desc-prior_dseg": _TISSUE_TABLE}

_GZIP = b"\x1f\x8b"
# What BIDS has no name for yet.
IGNORED = ("*_xfm.*", "*.html", "*.csv", "tables", "figures", "benchmarks", "logs", "cohort.tsv", "not_used.tsv",
           "*_registry.json", "*_matches.tsv", "*_trajectories.*", "*_patient.*", "*_measures.*", "train",
           "*_desc-treated_lesions.*", "*_desc-treatments.tsv", "*_decisions.tsv", "*_comparisons.tsv",
           "*_problems.tsv", "*_radiomics.*", "*_features.*", "*_itksnap.txt", "*.seg.nrrd", "CITATION.md",
           "references.bib")  # fmt: skip


def write_json(facts: Mapping[str, Any], path: str | Path) -> None:
    """Write facts as JSON; what is not a number becomes null, not NaN, which is no JSON."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(_plain(facts), indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read facts written by `write_json`."""
    facts: dict[str, Any] = json.loads(Path(path).read_text())
    return facts


def describe_origin(inputs: Iterable[str | Path], *, datasets: Mapping[str, str], space: str | Path) -> dict[str, Any]:
    """Return what BIDS asks to know of an image's origin.

    Parameters
    ----------
    inputs : paths
        The files that it was made of; those of no dataset (models, weights) are not listed.
    datasets : mapping
        Folder of each dataset by its name in BIDS URIs; the results have the empty name.
    space : path
        The raw scan in whose space the image is.

    Returns
    -------
    dict
        ``Sources``, BIDS URIs; ``SpatialReference``, one.

    Examples
    --------
    >>> roots = {"": "out", "raw": "bids", "labels": ""}
    >>> describe_origin(["out/sub-A/a.json", "models/b"], datasets=roots, space="bids/sub-A/c.nii.gz")
    {'Sources': ['bids::sub-A/a.json'], 'SpatialReference': 'bids:raw:sub-A/c.nii.gz'}
    """
    uris = [_uri(path, datasets) for path in inputs]
    return {"Sources": [uri for uri in uris if uri], "SpatialReference": _uri(space, datasets)}


def _uri(path: str | Path, datasets: Mapping[str, str]) -> str | None:
    """Return a file's BIDS URI, by the innermost dataset that holds it; None where none does."""
    # Links are not followed: scans may be links to where a version control system keeps them.
    place = Path(os.path.abspath(path))  # noqa: PTH100
    roots = {name: Path(os.path.abspath(folder)) for name, folder in datasets.items() if folder}  # noqa: PTH100
    holding = [name for name, root in roots.items() if place.is_relative_to(root)]
    if not holding:
        return None
    name = max(holding, key=lambda each: len(roots[each].parts))
    return f"bids:{name}:{place.relative_to(roots[name]).as_posix()}"


def describe_maker(*, version: str, settings_hash: str = "", commit: str = "", container: str = "") -> dict[str, Any]:
    """Return what made a dataset or a table, as GeneratedBy has it.

    Examples
    --------
    >>> describe_maker(version="0.1.0", settings_hash="3f9a")
    {'Name': 'mettrail', 'Version': '0.1.0', 'Description': 'settings 3f9a'}
    """
    known = {"settings": settings_hash, "commit": commit}
    described = ", ".join(f"{name} {value}" for name, value in known.items() if value)
    return {
        "Name": "mettrail",
        "Version": version,
        **({"Description": described} if described else {}),
        **({"Container": {"Type": container}} if container else {}),
    }


def describe_source(folder: str | Path) -> dict[str, Any]:
    """Return what a dataset says of itself; nothing where it does not, or not as JSON."""
    try:
        found = json.loads((Path(folder) / "dataset_description.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def describe_dataset(
    folder: str | Path,
    path: str | Path,
    *,
    maker: Mapping[str, Any],
    datasets: Mapping[str, str],
    references: Sequence[str],
    tracks: Iterable[str],
) -> None:
    """Write dataset_description.json, .bidsignore and what images inherit, of the results, a BIDS derivatives dataset.

    Names and colours of labels are also written for ITK-SNAP: ``desc-lesions_itksnap.txt`` and of tissues.

    Parameters
    ----------
    folder : path
        Top of the results.
    path : path
        Where dataset_description.json is written.
    maker : mapping
        From `describe_maker`.
    datasets : mapping
        As for `describe_origin`; ``raw`` is the dataset that the results are of. Its licence is theirs.
    references : sequence of str
        Addresses of the works that the run cites.
    tracks : iterable of str
        IDs of all lesions, of all patients: the same ID has the same number and colour everywhere.
    """
    source = describe_source(datasets["raw"])
    links = {name: os.path.relpath(place, folder) for name, place in datasets.items() if name and place}
    facts = {"URL": links["raw"], "DOI": source.get("DatasetDOI"), "Version": source.get("DatasetVersion")}
    description = {
        "Name": "mettrail: brain metastases over time",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "License": source.get("License"),
        "HowToAcknowledge": "Cite the works in references.bib; CITATION.md is the text of the method.",
        "ReferencesAndLinks": list(references),
        "GeneratedBy": [maker],
        "SourceDatasets": [{name: value for name, value in facts.items() if value}],
        "DatasetLinks": links,
    }
    write_json({name: value for name, value in description.items() if value}, path)
    for name, facts in _INHERITED.items():
        # BIDS refuses a sidecar nothing inherits from.
        if _find_images(folder, name):
            write_json(facts, Path(folder) / f"{name}.json")
    for name, rows in _LOOKUP.items():
        if _find_images(folder, name):
            text = "".join("\t".join(row) + "\n" for row in rows)
            (Path(folder) / f"{name}.tsv").write_text(text, encoding="utf-8")
    numbered = {track_index(track) + 1: track for track in tracks}
    lesions = [(str(number), name, track_colour(name)) for number, name in sorted(numbered.items())]
    for name, rows in (("desc-lesions", lesions), ("desc-tissue", _TISSUE_TABLE[1:])):
        (Path(folder) / f"{name}_itksnap.txt").write_text(_as_itksnap(rows), encoding="utf-8")
    (Path(folder) / ".bidsignore").write_text("\n".join(IGNORED) + "\n")


def _as_itksnap(labels: Iterable[tuple[str, str, str]]) -> str:
    """Write number, name and colour (#rrggbb) of labels as ITK-SNAP's label descriptions."""
    lines = ["# ITK-SnAP Label Description File", "# IDX R G B A VIS MSH LABEL", '0 0 0 0 0 0 0 "Clear Label"']
    for number, name, colour in labels:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        lines.append(f'{number} {red} {green} {blue} 1 1 1 "{name}"')
    return "\n".join(lines) + "\n"


def _find_images(folder: str | Path, name: str) -> bool:
    """Whether any session has an image of this name; what stands in for one that was not made is none."""
    pattern = f"sub-*/ses-*/anat/*_{name.replace('_', '*_')}.nii.gz"
    return any(_begins(path, _GZIP) for path in Path(folder).glob(pattern))


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: numpy's numbers are plain ones, what is no number is null."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
