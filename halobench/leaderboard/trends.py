"""Trends over an ordered axis (imbalance, amount of data, scale), and how they differ between two losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from halobench.leaderboard.stats import Estimate, anova

Levels = Mapping[float, Float[np.ndarray, "seeds prompts"]]


def slope_weights(axis: Sequence[float]) -> Float[np.ndarray, " levels"]:
    """Weights of a least-squares slope per doubling.

    w_k = c_k / sum c^2, c_k = log2 x_k - mean of log2 x

    Args:
        axis: K positive values, at least two different ones.

    Returns:
        (K,) weights; they add up to 0, and sum_k w_k log2 x_k = 1.

    Raises:
        ValueError: a value that has no logarithm, or values all alike.
    """
    values = np.asarray(axis, dtype=float)
    if not (np.isfinite(values).all() and (values > 0).all() and len(set(axis)) > 1):
        raise ValueError(f"needs positive values, at least two different ones, got {list(axis)}")
    centred = np.log2(values) - np.log2(values).mean()
    return np.asarray(centred / np.square(centred).sum())


def slopes(levels: Levels) -> Float[np.ndarray, "seeds prompts"]:
    """Slope per doubling of the axis, of each seed and prompt.

    Args:
        levels: place on the axis to its (S, P) values; the same seeds and prompts everywhere.

    Raises:
        ValueError: fewer than two places, or tables that are not alike.
    """
    shapes = {table.shape for table in levels.values()}
    if len(shapes) > 1:
        raise ValueError(f"needs the same seeds and prompts at every place, got {sorted(shapes)}")
    weights = slope_weights(list(levels))
    return np.asarray(sum(w * table for w, table in zip(weights, levels.values(), strict=True)))


def trend(levels: Levels) -> Estimate:
    """Estimate by how much the metric rises per doubling of the axis."""
    return anova(slopes(levels))


def interaction(first: Levels, second: Levels) -> Estimate:
    """Estimate the trend of A - that of B: above 0, A gains more, or degrades less, as the axis grows.

    Args:
        first: of loss A.
        second: of loss B, at the same places.

    Raises:
        ValueError: the places differ.
    """
    if set(first) != set(second):
        raise ValueError(f"needs the same places for both, got {sorted(first)} and {sorted(second)}")
    return anova(slopes(first) - slopes(second))


def breakdown(levels: Levels, reference: float, margin: float) -> float | None:
    """Return the place farthest from the reference up to which the metric is not inferior to it.

    Places are tested one after the other, nearest first, each at the full level, until one fails: in a fixed
    order this keeps the family-wise error without a correction.

    Args:
        levels: place on the axis to its (S, P) values, the reference on one end.
        reference: the place that the others are held against, for example 1 of the imbalance 1:1.
        margin: loss of the metric that does not count.

    Returns:
        The place, or None if the nearest fails already.

    Raises:
        ValueError: the reference is not on one end.

    Source: Maurer, Hothorn and Lehmacher 1995 (fixed-sequence testing).
    """
    if reference not in (min(levels), max(levels)):
        raise ValueError(f"needs the reference {reference:g} on one end of {sorted(levels)}")
    last = None
    for place in sorted(set(levels) - {reference}, key=lambda place: abs(place - reference)):
        low, _ = anova(levels[place] - levels[reference]).interval()
        if not low > -margin:
            break
        last = place
    return last
