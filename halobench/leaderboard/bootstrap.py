"""Statistics that are no mean (IQM, P(improvement), performance profiles), by a seeded two-way bootstrap."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from halobench.leaderboard.stats import LEVEL

REPLICATES = 2000
BOOTSTRAP_SEEDS = 5
TRIM = 0.25
_Means = list[Float[np.ndarray, "replicates _"]]
_Statistic = Callable[[_Means], Float[np.ndarray, " replicates"]]


class Bootstrapped(NamedTuple):
    """A statistic with its percentile interval.

    Attributes:
        value: of the data themselves.
        low: lower end, or None where no interval is given.
        high: its upper end.
        reason: why there is no interval, or "".
    """

    value: float
    low: float | None
    high: float | None
    reason: str


def iqm(
    tables: Sequence[Float[np.ndarray, "seeds _"]], analysis_id: str, level: float = LEVEL
) -> Bootstrapped:
    """Estimate the interquartile mean of a method's results over seeds and settings.

    IQM = mean of the seeds' means in all settings, without the lowest and the highest quarter of them

    Args:
        tables: for each setting (S, P) values; prompts may differ between settings.
        analysis_id: names the analysis, and is all that its random numbers depend on.
        level: of the interval.

    Source: Agarwal et al. 2021, arXiv:2108.13264; Owen 2007 (the bootstrap over both seeds and prompts).
    """

    def statistic(means: list[Float[np.ndarray, "replicates _"]]) -> Float[np.ndarray, " replicates"]:
        scores = np.sort(np.concatenate(means, axis=1), axis=1)
        cut = int(TRIM * scores.shape[1])
        return np.asarray(scores[:, cut : scores.shape[1] - cut].mean(1))

    return _bootstrap(statistic, [[table] for table in tables], analysis_id, level)


def p_improvement(
    pairs: Sequence[tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, "_ _"]]],
    analysis_id: str,
    level: float = LEVEL,
) -> Bootstrapped:
    """Estimate how often a run of A beats a run of B: how often, where the mean difference says how much.

    P = mean over settings of [P(a > b) + P(a = b) / 2], a and b the means of any seed of A and any of B

    Args:
        pairs: for each setting the (S, P) values of A and of B; the same prompts, any seeds.
        analysis_id: names the analysis, and is all that its random numbers depend on.
        level: of the interval.

    Source: Agarwal et al. 2021, arXiv:2108.13264.
    """

    def statistic(means: list[Float[np.ndarray, "replicates _"]]) -> Float[np.ndarray, " replicates"]:
        found = []
        for first, second in zip(means[::2], means[1::2], strict=True):
            difference = first[:, :, None] - second[:, None, :]  # (B, S_A, S_B)
            # equal win rates must tie also where they were added up in another order
            signs = np.where(np.abs(difference) < 1e-12, 0.0, np.sign(difference))
            found.append((1 + signs.mean((1, 2))) / 2)
        return np.asarray(np.mean(found, axis=0))

    return _bootstrap(statistic, [list(pair) for pair in pairs], analysis_id, level)


def profile(
    tables: Sequence[Float[np.ndarray, "seeds _"]],
    thresholds: Sequence[float],
    analysis_id: str,
    level: float = LEVEL,
) -> list[Bootstrapped]:
    """Estimate the performance profile: at each threshold the share of runs that score above it.

    F(tau) = mean over settings and seeds of [mean of the run > tau]; the intervals hold at each tau alone.

    Args:
        tables: for each setting (S, P) values.
        thresholds: tau, in units of the metric.
        analysis_id: names the analysis, and is all that its random numbers depend on.
        level: of the intervals.

    Source: Agarwal et al. 2021, arXiv:2108.13264.
    """
    settings = [[table] for table in tables]
    value = [table.mean(1)[None] for table in tables]
    drawn, reason = _drawn(settings, analysis_id)

    def above(tau: float) -> Bootstrapped:
        return _interval(
            lambda means: np.asarray(np.mean([(mean > tau).mean(1) for mean in means], axis=0)),
            value,
            drawn,
            reason,
            level,
        )

    return [above(tau) for tau in thresholds]


def _bootstrap(
    statistic: _Statistic,
    settings: Sequence[Sequence[Float[np.ndarray, "_ _"]]],
    analysis_id: str,
    level: float,
) -> Bootstrapped:
    """Give a statistic of the means of every table, settings in order, with its interval."""
    value = [table.mean(1)[None] for tables in settings for table in tables]
    drawn, reason = _drawn(settings, analysis_id)
    return _interval(statistic, value, drawn, reason, level)


def _interval(
    statistic: _Statistic, value: _Means, drawn: _Means | None, reason: str, level: float
) -> Bootstrapped:
    own = float(statistic(value)[0])
    if drawn is None:
        return Bootstrapped(own, None, None, reason)
    low, high = np.quantile(statistic(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Bootstrapped(own, float(low), float(high), "")


def _drawn(
    settings: Sequence[Sequence[Float[np.ndarray, "_ _"]]], analysis_id: str
) -> tuple[_Means | None, str]:
    """Draw seeds and prompts anew, independently of each other; tables of one setting share their prompts.

    Args:
        settings: for each its tables.
        analysis_id: seeds the generator.

    Returns:
        The (B, S) means of every table, settings in order; or None and why there are none.
    """
    fewest = min(len(table) for tables in settings for table in tables)
    if fewest < BOOTSTRAP_SEEDS:
        # measured: from 3 seeds a nominal 95% covers .80 to .94
        return None, f"{fewest} of {BOOTSTRAP_SEEDS} seeds: too few to draw from"
    stream = generator(analysis_id)
    means = []
    for tables in settings:
        num_prompts = tables[0].shape[1]
        counts = stream.multinomial(num_prompts, np.full(num_prompts, 1 / num_prompts), REPLICATES)
        for table in tables:
            rows = stream.integers(len(table), size=(REPLICATES, len(table)))
            weighted = counts @ table.T / num_prompts  # (B, S)
            means.append(np.take_along_axis(weighted, rows, axis=1))
    return means, ""


def generator(analysis_id: str) -> np.random.Generator:
    """Return the random numbers of an analysis: PCG64, seeded with the sha256 of its name."""
    digest = hashlib.sha256(analysis_id.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
