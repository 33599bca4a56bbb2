"""Smooth random fields and fast separable interpolation: what every part of the phantom is made of."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

TILE = 64
# A sum of cosines: the vectors along which they run, and their phases.
Waves = tuple[np.ndarray, np.ndarray]


def stream(seed: int, *names: object) -> np.random.Generator:
    """Return the random generator that belongs to a name.

    Parts draw from streams of their own, so that one more lesion or another voxel size leaves the rest of the
    patient as it was.

    Examples
    --------
    >>> bool(stream(1, "noise").random() == stream(1, "noise").random())
    True
    """
    return np.random.default_rng([int(seed), *(zlib.crc32(str(name).encode()) for name in names)])


def ramp(x: np.ndarray) -> np.ndarray:
    """Share of a voxel on the positive side of a boundary at signed distance `x` (in voxels)."""
    share: np.ndarray = np.clip(np.asarray(x, np.float32) + np.float32(0.5), 0, 1)
    return share


@lru_cache(maxsize=16)
def _tile(sigma: float, index: int) -> np.ndarray:
    noise = np.random.default_rng([int(sigma * 1000), index]).standard_normal((TILE,) * 3, dtype=np.float32)
    smooth: np.ndarray = ndimage.gaussian_filter(noise, sigma, mode="wrap", truncate=3)
    smooth -= smooth.mean()
    smooth /= smooth.std()
    return smooth


def texture(shape: tuple[int, ...], *, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise of unit variance smoothed by `sigma` voxels; repeats every 64 voxels.

    A tile made once is shifted and mirrored at random: smoothing a whole head anew takes longer than all the rest.
    """
    tile = _tile(sigma, int(rng.integers(2))).transpose(rng.permutation(3))
    index = [(np.arange(n) * rng.choice([-1, 1]) + rng.integers(TILE)) % TILE for n in shape]
    return tile[np.ix_(*index)]


def waves(rng: np.random.Generator, *, count: int, low: float, high: float) -> Waves:
    """Draw a random function on directions, a sum of `count` cosines; see `evaluate_waves`."""
    vectors = rng.standard_normal((count, 3))
    vectors *= (rng.uniform(low, high, count) / np.linalg.norm(vectors, axis=1))[:, None]
    return vectors.astype(np.float32), rng.uniform(0, 2 * np.pi, count).astype(np.float32)


def evaluate_waves(drawn: Waves, directions: np.ndarray) -> np.ndarray:
    """Value of a random function, about unit variance, for (..., 3) unit vectors."""
    vectors, phases = drawn
    values: np.ndarray = np.cos(directions @ vectors.T + phases).sum(-1) * np.float32(np.sqrt(2 / len(phases)))
    return values


@dataclass(frozen=True)
class Weights:
    """Linear interpolation along one axis: `low`, `low + 1` and the share of the latter, for every position."""

    low: np.ndarray
    share: np.ndarray

    def __getitem__(self, part: slice) -> Weights:
        return Weights(self.low[part], self.share[part])

    def __len__(self) -> int:
        return len(self.low)


def interpolate_at(positions: np.ndarray, size: int) -> Weights:
    """Return the weights that interpolate samples at 0..size-1 (two at least) linearly at `positions`."""
    positions = np.clip(np.asarray(positions, float), 0, size - 1)
    low = np.minimum(positions.astype(int), size - 2)
    return Weights(low, (positions - low).astype(np.float32))


def upsample(coarse: np.ndarray, weights: Sequence[Weights]) -> np.ndarray:
    """Interpolate an (..., a, b, c) array along its last three axes with weights for each of the three."""
    first, second, third = weights
    out = coarse.astype(np.float32, copy=False)
    # The middle axis last: whole rows are moved, which is fast.
    out = _blend(out[..., first.low, :, :], out[..., first.low + 1, :, :], first.share[:, None, None])
    out = _blend(out[..., third.low], out[..., third.low + 1], third.share)
    return _blend(out[..., second.low, :], out[..., second.low + 1, :], second.share[:, None])


def _blend(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    high -= low
    high *= share
    high += low
    return high


def low_order_field(
    shape: tuple[int, ...], *, knots: int, rng: np.random.Generator, change: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return a function of a very smooth random field that lies roughly within -1..1.

    The function is applied to a few coarse samples, which is all that so smooth a field needs.
    """
    coarse = ndimage.zoom(rng.uniform(-1, 1, (knots,) * 3), 8 / knots, order=3, mode="nearest", grid_mode=True)
    return upsample(change(coarse), [interpolate_at(np.linspace(0, 7, n), 8) for n in shape])


def smooth_vectors(shape: tuple[int, int, int], *, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return a (3, X, Y, Z) vector field smoothed by `sigma` voxels, components of unit variance."""
    field = rng.standard_normal((3, *shape), dtype=np.float32)
    for component in field:
        component[:] = ndimage.gaussian_filter(component, sigma, mode="reflect", truncate=3)
        component /= component.std()
    return field


def integrate(velocity: np.ndarray, *, steps: int = 6) -> np.ndarray:
    """Return the displacement of a stationary velocity field (3, X, Y, Z), in voxels: scaling and squaring.

    The result is a diffeomorphism: tissue is squeezed and stretched but never torn or folded.
    """
    index = np.indices(velocity.shape[1:], dtype=np.float32)
    moved: np.ndarray = velocity.astype(np.float32) / 2**steps
    for _ in range(steps):
        where = index + moved
        moved = moved + np.stack([ndimage.map_coordinates(c, where, order=1, mode="nearest") for c in moved])
    return moved


def make_affine(matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return the (4, 4) affine of a (3, 3) matrix and what is added after it."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, offset
    return affine


def move_points(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a (4, 4) affine to (..., 3) points."""
    moved: np.ndarray = points @ affine[:3, :3].T + affine[:3, 3]
    return moved
