"""Win rate at equal length: what a judge with a taste for length would say, were no answer the longer one."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from halobench.leaderboard.checkpoint import across_prompts
from halobench.leaderboard.clusters import by_group
from halobench.leaderboard.stats import LEVEL, Estimate, anova

_STEPS = 50
_CLOSE = 1e-10
_SEPARATED = 30.0  # logits: where every answer wins, theta has no end


class LengthControlled(NamedTuple):
    """A win rate with the part of length taken out; never the headline.

    Where length makes an answer better or worse this takes out quality, too: with an exact oracle it is
    mediated quality, with a model as the judge bias and quality both.

    Attributes:
        theta: log odds of winning at equal length.
        gamma: what length adds to the log odds, for a difference far beyond the usual one.
    """

    theta: Estimate
    gamma: Estimate

    @property
    def winrate(self) -> float:
        """LC = sigma(theta)."""
        return _sigma(self.theta.mean)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Two-sided confidence interval of the win rate: that of theta, on the scale of win rates."""
        low, high = self.theta.interval(level)
        return _sigma(low), _sigma(high)


def length_controlled(
    wins: Float[np.ndarray, "seeds prompts"],
    excess: Float[np.ndarray, "seeds prompts"],
    groups: Sequence[Hashable],
) -> LengthControlled | None:
    """Fit E[y] = sigma(theta + gamma * tanh(dlen / sd(dlen))), a fractional logit.

    The error is that of the one engine: theta plus each cell's influence on it, n A^-1 x (y - E[y]) with
    A = sum of x x' E[y] (1 - E[y]), is a table whose mean is theta, analysed as every other.

    Args:
        wins: (S, P) win rates in [0, 1], ties half.
        excess: (S, P) dlen, by how much the answer is longer than what it is compared with.
        groups: (P,) group of each prompt.

    Returns:
        The fit; None where lengths do not differ, where all prompts are one group, and where all comparisons
        are won, or all the longer ones, so that the odds have no end.

    Source: Dubois et al. 2024, arXiv:2404.04475 (length control); Papke and Wooldridge 1996 (the logit).
    """
    spread = float(excess.std())
    if not spread > 0 or len(set(groups)) < 2:
        return None
    x = np.stack([np.ones(excess.size), np.tanh(excess.ravel() / spread)])  # (2, S P)
    coefficients = _fit(wins.ravel(), x)
    if coefficients is None:
        return None
    mean = 1 / (1 + np.exp(-coefficients @ x))
    influence = excess.size * np.linalg.solve(x * (mean * (1 - mean)) @ x.T, x * (wins.ravel() - mean))
    tables = (coefficients[:, None] + influence).reshape(2, *wins.shape)
    drawn = [by_group(table, groups) for table in tables]
    theta, gamma = (anova(table) if len(table) > 1 else across_prompts(table[0]) for table in drawn)
    return LengthControlled(theta, gamma)


def _fit(wins: Float[np.ndarray, " cells"], x: Float[np.ndarray, "2 cells"]) -> Float[np.ndarray, 2] | None:
    """Coefficients of a fractional logit, by Newton's method; None where it has no end."""
    coefficients = np.zeros(2)
    for _ in range(_STEPS):
        mean = 1 / (1 + np.exp(-coefficients @ x))
        hessian = x * (mean * (1 - mean)) @ x.T
        if not np.linalg.cond(hessian) < 1 / _CLOSE:
            return None
        step = np.linalg.solve(hessian, x @ (wins - mean))
        coefficients = coefficients + step
        if np.abs(coefficients).max() > _SEPARATED:
            return None
        if np.abs(step).max() < _CLOSE:
            return coefficients
    return None


def _sigma(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if not math.isnan(logit) else math.nan
