"""The table that radiomics software reads: a mask a row. `Image`, `Mask` and `Label` are spelt as PyRadiomics asks."""

from __future__ import annotations

from mettrail.schema.columns import WHOSE, enum, flags, floating, integer, text

TISSUES = {
    "lesion": "enhancing tumour and necrosis",
    "enhancing": "enhancing tumour",
    "necrosis": "necrosis",
    "edema": "edema that belongs to the lesion, as in vol_ed_mm3 of the lesions; no rows where edema could not be told",
}
GRIDS = {
    "raw": "the scan as it is in the dataset, with masks on its grid",
    "1mm": "bias-corrected, brain-extracted, 1 mm isotropic; masks are those of the raw grid, nearest voxel",
}
# Which mask a row is of; tables of features have the same columns.
MASK = (
    *WHOSE,
    text("track_id", "Persistent lesion ID."),
    enum("tissue", "What of the lesion the mask holds.", TISSUES),
)
GRID = enum("grid", "Which image and which voxels.", GRIDS)
RADIOMICS = (
    *MASK,
    GRID,
    text("Image", "Image file, relative to the folder of this table."),
    text("Mask", "Mask file, relative to the folder of this table."),
    integer("Label", "Number of the lesion in the mask; that of other masks of this session is the same."),
    integer("n_voxels", "Voxels of the mask with this number."),
    floating("volume_mm3", "Their volume.", "mm^3"),
    flags(
        {"few_voxels": "fewer voxels than radiomics.few_voxels: texture says little, and software may refuse the mask"}
    ),
)
