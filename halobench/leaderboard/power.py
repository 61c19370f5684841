"""The chance that a comparison finds a true difference, and the seeds that it takes."""

from __future__ import annotations

from scipy import stats

from halobench.leaderboard.noise import Noise
from halobench.leaderboard.stats import LEVEL, POWER

MOST_SEEDS = 1000


def power(noise: Noise, difference: float, num_seeds: int, num_prompts: int) -> float:
    """Return the probability that a two-sided test at 5% finds a true difference, in its direction.

    P(T > t_.975 - |d| / SE), T of Student's t with Satterthwaite's degrees of freedom; against the exact
    non-central t too high by at most .01 from 4 degrees of freedom on, .03 at 2.

    Args:
        noise: of the paired difference.
        difference: d, in units of the metric.
        num_seeds: at least 2.
        num_prompts: at least 2.
    """
    expected = noise.estimate(abs(difference), num_seeds, num_prompts)
    if not expected.stderr > 0:
        return 1.0 if difference else 0.0
    critical = stats.t.ppf((1 + LEVEL) / 2, expected.df)
    return float(stats.t.sf(critical - expected.mean / expected.stderr, expected.df))


def fewest_seeds(noise: Noise, difference: float, num_prompts: int) -> int | None:
    """Return the fewest seeds that find a difference with a power of 80%; None if 1000 would not do.

    However many the seeds, the prompts' share of the error stays.
    """
    low, high = 1, 2  # the fewest are more than low
    while power(noise, difference, high, num_prompts) < POWER:
        if high >= MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(noise, difference, middle, num_prompts) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high
