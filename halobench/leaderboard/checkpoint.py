"""One seed: what can be said of these weights, and not of the method that made them."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from halobench.leaderboard.stats import Estimate


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
