"""A head for training to paint into."""

import numpy as np
from mettrail.training.views import Head

SHAPE = (52, 56, 48)


def make_head(*, flair=True):
    """A ball of white matter in a shell of grey matter, with a ventricle: z-scores of T1w and FLAIR."""
    axes = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes))
    beyond = (radius - 22).astype(np.float32)
    tissue = np.digitize(radius, [4, 17, 22])
    t1w = np.array([-2.5, 0.8, -0.5, -3.0], np.float32)[tissue]
    bright = np.array([-3.0, 0.0, 0.6, -3.0], np.float32)[tissue]
    beyond[radius > 26] = np.inf
    return Head(t1w, bright if flair else None, beyond)
