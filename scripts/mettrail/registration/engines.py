"""What a registration engine is given: one task, and the settings of the config file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mettrail.images import Image

Stage = Literal["rigid", "affine", "deformable"]


@dataclass(frozen=True)
class Settings:
    """How to register: an engine and what it needs to know.

    Parameters
    ----------
    engine : str
        A name in `mettrail.registration.ENGINES`.
    seed : int
        Above 0: the sampling is then the same each time. What ANTs adds up over several threads may still
        differ in last digits; greedy's result is the same.
    mask_grow_mm : float
        The metric sees brain masks grown by this.
    of_engine : mapping
        Keyword arguments of the engine's ``run``; those of the warp may be None where none is asked for.
    """

    engine: str
    seed: int
    mask_grow_mm: float
    of_engine: Mapping[str, Any]

    @classmethod
    def of(cls, *, engine: str, seed: int, mask_grow_mm: float, **engines: Mapping[str, Any]) -> Settings:
        """Make them of the block ``register`` of the config file, which has a block for every engine.

        Examples
        --------
        >>> Settings.of(engine="ants", seed=1, mask_grow_mm=3, greedy={"radius": 2}, ants={"radius": 4}).of_engine
        {'radius': 4}
        """
        return cls(engine, seed, mask_grow_mm, engines[engine])


@dataclass(frozen=True)
class Task:
    """One registration, as an engine gets it.

    Parameters
    ----------
    fixed, moving : Image
        Cut to the brain, values from 0 to 1000.
    fixed_mask, moving_mask : Image or None
        Where the metric is taken, on the grids of the images; None: everywhere.
    stage : {'rigid', 'affine', 'deformable'}
        The last one; those before it come first.
    start : (4, 4) float
        RAS mm, fixed to moving; roughly right.
    threads, seed : int
    """

    fixed: Image
    moving: Image
    fixed_mask: Image | None
    moving_mask: Image | None
    stage: Stage
    start: np.ndarray
    threads: int
    seed: int
