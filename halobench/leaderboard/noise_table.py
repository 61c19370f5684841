"""A board's noise: of what the error of its differences is made, and what would make it smaller."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from halobench.leaderboard.contrasts import Comparison, decodes
from halobench.leaderboard.cube import Setting
from halobench.leaderboard.noise import Noise

POOLED = "all pairs"


def noise_table(setting: Setting, comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """One row per pair of ranked losses and decode, and one for all pairs together, at their own size.

    Shares are of the variance of the difference's mean; `more_of` says of what twice as many would make the
    smallest detectable difference smaller.
    """
    rows = []
    for decode in decodes(setting):
        pairs = [
            c for c in comparisons if (c.family, c.decode) == ("losses", decode) and c.estimate.stderr > 0
        ]
        if not pairs:
            continue
        estimates = [c.estimate for c in pairs]
        fewest = (min(e.num_seeds for e in estimates), min(e.num_prompts for e in estimates))
        rows.append(_row(setting, decode, (POOLED, ""), Noise.of(estimates), *fewest))
        for c in pairs:
            size = (c.estimate.num_seeds, c.estimate.num_prompts)
            rows.append(_row(setting, decode, (c.first, c.second), Noise.of([c.estimate]), *size))
    return pd.DataFrame(rows)


def _row(
    setting: Setting, decode: str, pair: tuple[str, str], noise: Noise, num_seeds: int, num_prompts: int
) -> dict[str, object]:
    shares = noise.shares(num_seeds, num_prompts)
    expected = noise.estimate(0.0, num_seeds, num_prompts)
    return {
        "suite": setting.suite,
        "setting": setting.setting_id,
        "decode": decode,
        "metric": setting.board.metric,
        "a": pair[0],
        "b": pair[1],
        "seed_sd": noise.seed_sd,
        "prompt_sd": noise.prompt_sd,
        "residual_sd": noise.residual_sd,
        "num_seeds": num_seeds,
        "num_prompts": num_prompts,
        "stderr": expected.stderr,
        "share_seeds": shares.seeds,
        "share_prompts": shares.prompts,
        "share_rest": shares.rest,
        "detectable": expected.detectable,
        "more_of": noise.more_of(num_seeds, num_prompts),
    }


def noise_note(table: pd.DataFrame) -> list[str]:
    """Say where the error of a typical difference comes from, at the primary decode."""
    if table.empty:
        return []
    pooled = table.iloc[0]
    return [
        f"Noise: of the error variance of a typical difference {pooled['share_seeds']:.0%} is seeds, "
        f"{pooled['share_prompts']:.0%} prompts, {pooled['share_rest']:.0%} the rest; of twice as many, "
        f"{pooled['more_of']} would help more."
    ]
