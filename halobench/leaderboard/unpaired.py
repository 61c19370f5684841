"""Two rows without common seeds: prompts are paired, seeds are not, so each row brings its own luck."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from halobench.leaderboard.stats import Estimate, anova, satterthwaite


def unpaired(first: Float[np.ndarray, "_ prompts"], second: Float[np.ndarray, "_ prompts"]) -> Estimate:
    """Estimate A - B from the same prompts and other seeds, as many as there are.

    SE^2 = var(r_A) / S_A + var(r_B) / S_B + var(q_A - q_B) / P - MS_EA / (S_A P) - MS_EB / (S_B P),
    with the means r of seeds and q of prompts, and at least the part of seeds and at least that of prompts;
    the residuals are in either part, so that one of the two is taken out. Welch's degrees of freedom.

    Args:
        first: (S_A, P) of A, at least 2 x 2.
        second: (S_B, P) of B.

    Returns:
        The estimate; its components are those of a paired difference of as many seeds as the shorter table
        has, with this error.

    Raises:
        ValueError: fewer than two seeds or prompts, or a cell is missing.

    Source: Welch 1947.
    """
    tables = (first, second)
    num_prompts = first.shape[1]
    residual_parts = [anova(table).residual_sd ** 2 / table.size for table in tables]
    seed_parts = [float((t - t[0, 0]).mean(1).var(ddof=1)) / len(t) for t in tables]
    means = [(table - table[0, 0]).mean(0) for table in tables]
    prompt_part = float((means[0] - means[1]).var(ddof=1)) / num_prompts
    of_seeds, of_rest = sum(seed_parts), sum(residual_parts)
    variance = max(of_seeds + prompt_part - of_rest, of_seeds, prompt_part)
    parts = [(prompt_part, num_prompts - 1)]
    for table, of_seed, of_residual in zip(tables, seed_parts, residual_parts, strict=True):
        parts += [(of_seed, len(table) - 1), (of_residual, (len(table) - 1) * (num_prompts - 1))]
    num_seeds = min(len(table) for table in tables)
    return Estimate(
        mean=float(first.mean() - second.mean()),
        stderr=math.sqrt(variance),
        df=satterthwaite(variance, parts),
        num_seeds=num_seeds,
        num_prompts=num_prompts,
        seed_sd=math.sqrt(max(0.0, of_seeds - of_rest) * num_seeds),
        prompt_sd=math.sqrt(max(0.0, prompt_part - of_rest) * num_prompts),
        residual_sd=math.sqrt(of_rest * num_seeds * num_prompts),
    )
