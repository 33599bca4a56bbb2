"""Which scan is whose: the walk over a dataset's folders."""

from __future__ import annotations

from pathlib import Path


def find_scans(bids: Path) -> list[dict]:
    """List anatomical scans with their entities, through pybids, asked once."""
    from bids import BIDSLayout
    from bids.layout import BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=["derivatives", "sourcedata", "code"])
    layout = BIDSLayout(bids, validate=False, derivatives=False, indexer=indexer)
    scans = []
    for entry in layout.get(datatype="anat", extension=[".nii", ".nii.gz"]):
        entities = entry.get_entities()
        agent, suffix = entities.get("ceagent"), entities.get("suffix")
        scans.append(
            {
                "sub": entities["subject"],
                # A dataset of single visits has no session folders.
                "ses": entities.get("session", "1"),
                "role": f"ce-{agent}_{suffix}" if agent else suffix,
                "path": str(Path(entry.path).relative_to(bids.absolute())),
            }
        )
    return sorted(scans, key=lambda s: s["path"])
