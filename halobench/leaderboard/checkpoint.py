"""One seed: what can be said of these weights, and not of the method that made them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from halobench.leaderboard.bootstrap import generator
from halobench.leaderboard.clusters import totals
from halobench.leaderboard.stats import Estimate

FLIPS = 10_000
_AT_ONCE = 2**22  # cells of a block of flips


def across_prompts(values: Float[np.ndarray, " prompts"]) -> Estimate:
    """Estimate the mean of one checkpoint, or of a difference of two; only prompts are drawn from many.

    SE^2 = var(values) / P, df = P - 1

    Args:
        values: (P,), at least two; samples of a prompt averaged.

    Returns:
        The estimate, its seed_sd nan: one seed does not say how much seeds differ.

    Raises:
        ValueError: fewer than two prompts, or one is missing.

    Source: Miller 2024, arXiv:2411.00640.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"needs at least 2 prompts, each with its value, got {len(values)}")
    prompt_sd = float((values - values[0]).std(ddof=1))  # what does not vary must come out as exactly zero
    return Estimate(
        mean=float(values.mean()),
        stderr=prompt_sd / math.sqrt(len(values)),
        df=float(len(values) - 1),
        num_seeds=1,
        num_prompts=len(values),
        seed_sd=math.nan,
        prompt_sd=prompt_sd,
        residual_sd=0.0,
    )


def exact_p(
    first: Float[np.ndarray, " prompts"],
    second: Float[np.ndarray, " prompts"],
    groups: Sequence[Hashable],
    analysis_id: str,
) -> float:
    """Two-sided p-value of two checkpoints being equal, by a test that needs no distribution of the values.

    McNemar's where every outcome is a win or a loss and every prompt stands alone, else sign flips.

    Args:
        first: (P,) of checkpoint A.
        second: (P,) of checkpoint B, the same prompts.
        groups: (P,) group of each prompt.
        analysis_id: names the analysis, and is all that the random numbers of the flips depend on.
    """
    if is_binary(first) and is_binary(second) and len(set(groups)) == len(groups):
        return mcnemar(first, second)
    return sign_flip(totals((first - second)[None], groups)[0], analysis_id)


def is_binary(values: Float[np.ndarray, ...]) -> bool:
    """Whether every outcome is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def mcnemar(first: Float[np.ndarray, " prompts"], second: Float[np.ndarray, " prompts"]) -> float:
    """McNemar's exact test: of the prompts that one alone won, either would win half.

    Source: McNemar 1947.
    """
    only_first, only_second = int((first > second).sum()), int((second > first).sum())
    if not only_first + only_second:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def sign_flip(values: Float[np.ndarray, " prompts"], analysis_id: str) -> float:
    """Test whether differences are as likely to be of either sign, by flipping signs at random.

    p = (1 + #{|sum of flipped values| >= |sum of values|}) / (1 + B), B = 10,000

    Args:
        values: (P,) differences by prompt, or their sums by group.
        analysis_id: names the analysis, and is all that its random numbers depend on.

    Source: Fisher 1935; Phipson and Smyth 2010 (the 1 in the ratio).
    """
    stream = generator(analysis_id)
    observed = abs(float(values.sum())) * (1 - 1e-12)  # a tie, also where it was added up in another order
    extreme, done = 0, 0
    while done < FLIPS:
        block = min(FLIPS - done, max(1, _AT_ONCE // len(values)))
        signs = stream.integers(0, 2, size=(block, len(values)), dtype=np.int8)
        extreme += int((np.abs(signs @ (2 * values) - values.sum()) >= observed).sum())
        done += block
    return (1 + extreme) / (1 + FLIPS)
