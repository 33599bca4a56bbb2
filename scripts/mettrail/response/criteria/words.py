"""The words of the criteria, as they stand in the final tables."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

NA: Final = "n/a"  # nothing to judge: no targets, no non-target lesions

Response: TypeAlias = Literal["CR", "PR", "SD", "NON_CR_NON_PD", "PD", "uPD", "ND", "NE", "n/a"]
NewLesions: TypeAlias = Literal["none", "equivocal", "definite"]  # of a session
# A lesion at a session, as the response sees it.
State: TypeAlias = Literal["undetected", "present", "absent", "merged", "ne"]
# Where a size comes from: the columns ld_source and vol_source.
Source: TypeAlias = Literal[
    "measured", "components", "floor5", "absent", "merged", "ne", "probable_missed_detection", "tsm5", "override"
]
Role: TypeAlias = Literal["target", "nontarget", "new", "recurrent", "candidate", "prebaseline", "excluded"]
Steroids: TypeAlias = Literal["none", "decreased", "stable", "increased", "unknown"]
Clinical: TypeAlias = Literal["improved", "stable", "worse", "unknown"]
