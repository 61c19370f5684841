"""Comparisons of published counts: all that two checkpoints' wins can say where the answers are not known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from halobench.leaderboard.stats import LEVEL, POWER, clopper_pearson, verdict

NOT_RESOLVABLE = "not resolvable from published counts"


@dataclass(frozen=True)
class CountComparison:
    """Two published rates, of one checkpoint each, within their family.

    What it says holds for these weights, never for the methods, of which one seed was seen.

    Attributes:
        difference: rate of A - rate of B.
        p: Holm-adjusted two-sided p-value of Fisher's exact test.
        separated: whether Fisher's test rejects and the interval excludes 0.
        low: lower end of the adjusted interval of the difference; it holds 0 unless separated.
        high: its upper end.
    """

    difference: float
    p: float
    separated: bool
    low: float
    high: float

    def verdict(self, margin: float) -> str:
        """What it says of A; differences within the margin do not count."""
        word = verdict(self.low, self.high, margin)
        return NOT_RESOLVABLE if word == "inconclusive" else word


def compare_counts(wins_a: int, total_a: int, wins_b: int, total_b: int) -> CountComparison:
    """Compare A's wins with B's, as if their prompts were different ones.

    They mostly were the same: the pairing is lost, so the test errs on the careful side.

    Args:
        wins_a: prompts that A won; ties and failed judgements are not won.
        total_a: prompts that A was judged on, at least 1.
        wins_b: prompts that B won.
        total_b: prompts that B was judged on.

    Raises:
        ValueError: more wins than prompts, or no prompts.

    Source: Fisher 1935 (test); Zou and Donner 2008 (interval, of Clopper-Pearson limits).
    """
    return compare_family([(wins_a, total_a, wins_b, total_b)])[0]


def compare_family(
    counts: Sequence[tuple[int, int, int, int]], alpha: float = 1 - LEVEL
) -> list[CountComparison]:
    """Make every comparison of a family, corrected by Holm.

    Args:
        counts: wins and total of A, wins and total of B; for each comparison.
        alpha: probability of any wrong direction in the family.

    Raises:
        ValueError: more wins than prompts, or no prompts.
    """
    p_values = [_fisher(*entry) for entry in counts]
    found: dict[int, CountComparison] = {}
    running, still_rejecting, left = 0.0, True, len(counts)
    for rank, index in enumerate(sorted(range(len(counts)), key=lambda i: p_values[i])):
        if still_rejecting:
            left = len(counts) - rank
            still_rejecting = p_values[index] <= alpha / left
        running = max(running, min(1.0, p_values[index] * (len(counts) - rank)))
        wins_a, total_a, wins_b, total_b = counts[index]
        low, high = difference_interval(*counts[index], level=1 - alpha / left)
        separated = still_rejecting and (low > 0 or high < 0)
        if not separated:
            low, high = min(low, 0.0), max(high, 0.0)
        difference = wins_a / total_a - wins_b / total_b
        found[index] = CountComparison(difference, running, separated, low, high)
    return [found[index] for index in range(len(counts))]


def difference_interval(
    wins_a: int, total_a: int, wins_b: int, total_b: int, *, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of the difference of two independent rates, from the exact interval of each.

    low = d - sqrt((a - a_low)^2 + (b_high - b)^2), high = d + sqrt((a_high - a)^2 + (b - b_low)^2), d = a - b
    """
    a, b = wins_a / total_a, wins_b / total_b
    a_low, a_high = clopper_pearson(wins_a, total_a, level)
    b_low, b_high = clopper_pearson(wins_b, total_b, level)
    return a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


def detectable_difference(total_a: int, total_b: int) -> float:
    """Smallest true difference near a rate of 1/2 that counts find with a power of 80% at 5%, two-sided."""
    error = math.sqrt(0.25 / total_a + 0.25 / total_b)
    return float(stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER)) * error


def _fisher(wins_a: int, total_a: int, wins_b: int, total_b: int) -> float:
    for wins, total in ((wins_a, total_a), (wins_b, total_b)):
        if not 0 <= wins <= total or total < 1:
            raise ValueError(f"{wins} wins of {total} prompts: needs 0 <= wins <= prompts, at least 1 prompt")
    table = [[wins_a, total_a - wins_a], [wins_b, total_b - wins_b]]
    return float(stats.fisher_exact(table).pvalue)
