"""The one engine of every interval: two-way ANOVA over seeds and prompts, Holm, rank intervals, verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
POWER = 0.8
MIN_SEEDS = 3
Verdict = Literal[
    "better",
    "better, within the margin",
    "worse",
    "worse, within the margin",
    "equivalent",
    "not inferior",
    "not superior",
    "inconclusive",
]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and prompts with its error.

    Attributes:
        mean: of all cells.
        stderr: of the mean; both seeds and prompts count as drawn from many.
        df: Satterthwaite's degrees of freedom of `stderr`.
        num_seeds: rows of the table.
        num_prompts: columns of the table: prompts, or groups of them that are drawn together.
        seed_sd: standard deviation between seeds, prompts and residual noise taken out.
        prompt_sd: standard deviation between prompts, likewise.
        residual_sd: standard deviation of what is left in a cell.
    """

    mean: float
    stderr: float
    df: float
    num_seeds: int
    num_prompts: int
    seed_sd: float
    prompt_sd: float
    residual_sd: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Two-sided confidence interval; (nan, nan) where nothing varies, so that no error is known."""
        if not self.stderr > 0:
            return math.nan, math.nan
        # stdtr and stdtrit are the t distribution; `stats.t` checks its arguments ten times as long
        half = float(stdtrit(self.df, (1 + level) / 2)) * self.stderr
        return self.mean - half, self.mean + half

    @property
    def p_greater(self) -> float:
        """One-sided p-value of mean <= 0; nan where nothing varies."""
        return float(stdtr(self.df, -self.mean / self.stderr)) if self.stderr > 0 else math.nan

    @property
    def detectable(self) -> float:
        """Smallest true mean that a two-sided test at 5% finds with a power of 80%."""
        return float(stdtrit(self.df, (1 + LEVEL) / 2) + stdtrit(self.df, POWER)) * self.stderr


def anova(values: Float[np.ndarray, "seeds prompts"]) -> Estimate:
    """Estimate the mean of a complete table of seeds by prompts.

    SE^2 = max(MS_S + MS_P - MS_E, MS_S, MS_P) / (S P), with the mean squares of seeds, prompts and residual;
    df = V^2 / (MS_S^2 / (S - 1) + MS_P^2 / (P - 1) + MS_E^2 / ((S - 1)(P - 1))), V the numerator of SE^2

    Args:
        values: (S, P), S and P at least 2; differences of two conditions for a paired comparison.

    Raises:
        ValueError: fewer than two seeds or prompts, or a cell is missing.

    Source: Satterthwaite 1946; measured coverage in results/README.md.
    """
    num_seeds, num_prompts = values.shape
    if num_seeds < 2 or num_prompts < 2 or not np.isfinite(values).all():
        raise ValueError(f"needs a complete table of at least 2 x 2, got {num_seeds} x {num_prompts}")
    mean = float(values.mean())
    values = values - values[0, 0]  # what does not vary must come out as exactly zero
    seed_means, prompt_means = values.mean(1), values.mean(0)
    residual = values - seed_means[:, None] - prompt_means + float(values.mean())
    ms_seed = num_prompts * float(seed_means.var(ddof=1))
    ms_prompt = num_seeds * float(prompt_means.var(ddof=1))
    df_residual = (num_seeds - 1) * (num_prompts - 1)
    ms_residual = float(np.square(residual).sum()) / df_residual
    numerator = max(ms_seed + ms_prompt - ms_residual, ms_seed, ms_prompt)
    parts = ((ms_seed, num_seeds - 1), (ms_prompt, num_prompts - 1), (ms_residual, df_residual))
    return Estimate(
        mean=mean,
        stderr=math.sqrt(numerator / (num_seeds * num_prompts)),
        df=satterthwaite(numerator, parts),
        num_seeds=num_seeds,
        num_prompts=num_prompts,
        seed_sd=math.sqrt(max(0.0, (ms_seed - ms_residual) / num_prompts)),
        prompt_sd=math.sqrt(max(0.0, (ms_prompt - ms_residual) / num_seeds)),
        residual_sd=math.sqrt(ms_residual),
    )


def satterthwaite(variance: float, parts: Iterable[tuple[float, int]]) -> float:
    """Degrees of freedom of a variance that mean squares add up to.

    df = V^2 / sum_k M_k^2 / df_k, at least 1

    Args:
        variance: V, in any unit.
        parts: mean squares M_k in that unit, added or subtracted, each with its degrees of freedom.

    Source: Satterthwaite 1946.
    """
    spread = sum(square**2 / df for square, df in parts)
    return max(1.0, variance**2 / spread) if spread > 0 else 1.0


class Adjusted(NamedTuple):
    """A comparison within its family.

    Attributes:
        p: Holm-adjusted one-sided p-value in the direction of the estimate.
        separated: whether the direction is established at the family's level.
        low: lower end of the adjusted interval, which excludes 0 exactly when the direction is established.
        high: its upper end.
    """

    p: float
    separated: bool
    low: float
    high: float


def holm(estimates: Sequence[Estimate], alpha: float = 1 - LEVEL) -> list[Adjusted]:
    """Adjust the comparisons of a family: Holm over both one-sided hypotheses of each.

    A family of m pairs has 2 m one-sided hypotheses (for K losses K(K - 1)). The smallest p-value is held
    against alpha / 2m, the next against alpha / (2m - 1), until one fails. The interval of a comparison is
    the one at the level it was held against: 1 - 2 alpha / (number of hypotheses left).

    Args:
        estimates: differences A - B; one that does not vary cannot be separated.
        alpha: probability of any wrong direction in the family.
    """
    total = 2 * len(estimates)
    p_values = [min(e.p_greater, 1 - e.p_greater) if e.stderr > 0 else 1.0 for e in estimates]
    adjusted: list[Adjusted | None] = [None] * len(estimates)
    running, still_rejecting, left = 0.0, True, total
    for rank, index in enumerate(sorted(range(len(estimates)), key=lambda i: p_values[i])):
        if still_rejecting:
            left = total - rank
            still_rejecting = p_values[index] <= alpha / left
        running = max(running, min(1.0, p_values[index] * (total - rank)))
        low, high = estimates[index].interval(1 - 2 * alpha / left)
        adjusted[index] = Adjusted(running, still_rejecting, low, high)
    return [entry for entry in adjusted if entry is not None]


def rank_intervals(
    names: Sequence[str], separated: Mapping[tuple[str, str], float]
) -> dict[str, tuple[int, int]]:
    """Return the ranks that each name may have: from 1 + those established as better, to K - those as worse.

    Args:
        names: the ranked names.
        separated: (a, b) to the difference a - b, for pairs whose direction is established.
    """
    better = dict.fromkeys(names, 0)
    worse = dict.fromkeys(names, 0)
    for (first, second), difference in separated.items():
        winner, loser = (first, second) if difference > 0 else (second, first)
        better[loser] += 1
        worse[winner] += 1
    return {name: (1 + better[name], len(names) - worse[name]) for name in names}


def verdict(low: float, high: float, margin: float) -> Verdict:
    """Say what an adjusted interval of A - B means for A; differences within the margin do not count."""
    if math.isnan(low):
        return "inconclusive"
    is_within = -margin < low and high < margin
    if low > 0:
        return "better, within the margin" if is_within else "better"
    if high < 0:
        return "worse, within the margin" if is_within else "worse"
    if is_within:
        return "equivalent"
    if low > -margin:
        return "not inferior"
    return "not superior" if high < margin else "inconclusive"


def clopper_pearson(count: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval of a proportion, which covers at least so often; (0, 1) of nothing."""
    return _proportion(count, total, level, "exact")


def wilson(count: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of a proportion, which covers so often on average; near 0 and 1, too."""
    return _proportion(count, total, level, "wilson")


def _proportion(count: int, total: int, level: float, method: str) -> tuple[float, float]:
    if total == 0:
        return 0.0, 1.0
    interval = stats.binomtest(count, total).proportion_ci(confidence_level=level, method=method)
    return float(interval.low), float(interval.high)
