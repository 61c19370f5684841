"""Where the error of a difference comes from: seeds, prompts, or what is left in a cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from halobench.leaderboard.stats import Estimate, satterthwaite


class Shares(NamedTuple):
    """Parts of the variance of a mean; they add up to 1.

    Attributes:
        seeds: of training again.
        prompts: of asking other prompts.
        rest: of their interaction and of sampling, which both seeds and prompts average out.
    """

    seeds: float
    prompts: float
    rest: float


@dataclass(frozen=True)
class Noise:
    """Variance components of a value, or of a paired difference, by seed and prompt.

    Attributes:
        seed_sd: standard deviation between seeds, in units of the metric.
        prompt_sd: standard deviation between prompts.
        residual_sd: standard deviation of what is left in a cell.
    """

    seed_sd: float
    prompt_sd: float
    residual_sd: float

    @classmethod
    def of(cls, estimates: Sequence[Estimate]) -> Noise:
        """Pool estimates of one kind, at least one: the mean of each variance."""
        return cls(
            *(
                math.sqrt(sum(getattr(e, name) ** 2 for e in estimates) / len(estimates))
                for name in ("seed_sd", "prompt_sd", "residual_sd")
            )
        )

    def estimate(self, difference: float, num_seeds: int, num_prompts: int) -> Estimate:
        """Return the estimate to expect of a true difference, from so many seeds and prompts.

        SE^2 = seed_sd^2 / S + prompt_sd^2 / P + residual_sd^2 / (S P); Satterthwaite's degrees of freedom at
        the expected mean squares MS_S = P seed_sd^2 + residual_sd^2, MS_P = S prompt_sd^2 + residual_sd^2.
        """
        ms_residual = self.residual_sd**2
        ms_seed = num_prompts * self.seed_sd**2 + ms_residual
        ms_prompt = num_seeds * self.prompt_sd**2 + ms_residual
        top = ms_seed + ms_prompt - ms_residual
        df_seed, df_prompt = num_seeds - 1, num_prompts - 1
        parts = ((ms_seed, df_seed), (ms_prompt, df_prompt), (ms_residual, df_seed * df_prompt))
        return Estimate(
            mean=difference,
            stderr=math.sqrt(top / (num_seeds * num_prompts)),
            df=satterthwaite(top, parts),
            num_seeds=num_seeds,
            num_prompts=num_prompts,
            seed_sd=self.seed_sd,
            prompt_sd=self.prompt_sd,
            residual_sd=self.residual_sd,
        )

    def shares(self, num_seeds: int, num_prompts: int) -> Shares:
        """Say how much of the variance of the mean is due to what; nan where nothing varies."""
        parts = (
            self.seed_sd**2 / num_seeds,
            self.prompt_sd**2 / num_prompts,
            self.residual_sd**2 / (num_seeds * num_prompts),
        )
        total = sum(parts)
        return Shares(*(part / total if total > 0 else math.nan for part in parts))

    def more_of(self, num_seeds: int, num_prompts: int) -> str:
        """Say of what twice as many would make a smaller difference detectable: "seeds" or "prompts"."""
        seeds = self.estimate(0.0, 2 * num_seeds, num_prompts).detectable
        prompts = self.estimate(0.0, num_seeds, 2 * num_prompts).detectable
        return "seeds" if seeds <= prompts else "prompts"


def steadied(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Cap each comparison's degrees of freedom at those of its family's pooled variance components.

    df' = min(df, df of the mean variances of the family, at the comparison's own seeds and prompts)

    Few seeds hardly know their own variance. By luck a comparison may look as if prompts alone mattered; its
    degrees of freedom are then those of hundreds of prompts, and in the far tail that Holm asks for it claims
    too much. Uncapped, five seeds with the noise of the quickstart made a wrong claim on 9% of boards of six
    equal losses; see results/simulation.

    Args:
        estimates: of one family; one that does not vary stays as it is.
    """
    varying = [estimate for estimate in estimates if estimate.stderr > 0]
    if not varying:
        return list(estimates)
    pooled = Noise.of(varying)
    return [replace(e, df=min(e.df, pooled.estimate(0.0, e.num_seeds, e.num_prompts).df)) for e in estimates]
