"""Win rate against KL: what a loss gains at the same distance from the reference, and the Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from halobench.leaderboard.stats import Estimate, anova


class Point(NamedTuple):
    """A run on the plane.

    Attributes:
        kl: nats per answer, its mean over prompts.
        values: (P,) of the metric, by prompt.
    """

    kl: float
    values: Float[np.ndarray, " prompts"]


class Matched(NamedTuple):
    """A comparison at the same KL.

    Attributes:
        estimate: of A - B; None unless two seeds reach that KL with both losses.
        seeds: that do.
        out_of_reach: seeds that do not, with one loss or both; nothing is extrapolated.
    """

    estimate: Estimate | None
    seeds: tuple[int, ...]
    out_of_reach: tuple[int, ...]


def at_kl(points: Iterable[Point], kl: float) -> Float[np.ndarray, " prompts"] | None:
    """Interpolate the runs of one seed, for example at several beta, to a KL.

    y = (1 - t) y_k + t y_k+1, t = (kl - kl_k) / (kl_k+1 - kl_k), between neighbours on the axis of KL

    Args:
        points: of one loss and seed, in any order; same prompts.
        kl: nats per answer.

    Returns:
        (P,) values, or None outside of the runs.
    """
    ordered = sorted(points, key=lambda point: point.kl)
    for left, right in pairwise(ordered):
        if left.kl <= kl <= right.kl and left.kl < right.kl:
            share = (kl - left.kl) / (right.kl - left.kl)
            return np.asarray((1 - share) * left.values + share * right.values)
    return next((point.values for point in ordered if point.kl == kl), None)


def compare_at_kl(
    first: Mapping[int, Iterable[Point]], second: Mapping[int, Iterable[Point]], kl: float
) -> Matched:
    """Compare two losses at the same KL, paired by seed and prompt.

    The interpolation is each seed's own, so that its error is in the spread between seeds.

    Args:
        first: seed to the runs of loss A.
        second: seed to the runs of loss B; only common seeds are compared.
        kl: nats per answer.
    """
    differences = {}
    common = sorted(set(first) & set(second))
    for seed in common:
        a, b = at_kl(first[seed], kl), at_kl(second[seed], kl)
        if a is not None and b is not None:
            differences[seed] = a - b
    estimate = anova(np.stack(list(differences.values()))) if len(differences) > 1 else None
    return Matched(estimate, tuple(differences), tuple(seed for seed in common if seed not in differences))


def pareto(places: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (KL, metric) pairs that no other one beats: the steps of the front, by rising KL.

    A pair is beaten by one with no more KL and no less of the metric, better in one of them.
    """
    front: list[tuple[float, float]] = []
    for kl, value in sorted(set(places), key=lambda place: (place[0], -place[1])):
        if not front or value > front[-1][1]:
            front.append((kl, value))
    return front
