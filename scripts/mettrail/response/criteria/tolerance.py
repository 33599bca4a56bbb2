"""Comparisons of unrounded values: with a tolerance of 1e-6 (mm, and relative), and never true of NaN."""

from __future__ import annotations

TOLERANCE = 1e-6


def at_least(value: float, limit: float) -> bool:
    """Whether a value reaches a limit, within the tolerance; never for NaN."""
    return bool(value >= limit - TOLERANCE * max(1.0, abs(limit)))


def at_most(value: float, limit: float) -> bool:
    """Whether a value stays at or below a limit, within the tolerance; never for NaN."""
    return bool(value <= limit + TOLERANCE * max(1.0, abs(limit)))
