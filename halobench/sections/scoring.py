"""How policies are scored, and what the leaderboard says of the scores."""

from __future__ import annotations

from typing import Literal

from halobench.sections.base import Count, NonNegative, Positive, Section


class Scoring(Section):
    """How policies are scored; not part of a run's identity.

    Attributes:
        scorers: registered scorers, see `halobench list scorers`.
        num_prompts: the first so many prompts of the set; None takes all.
        samples_per_prompt: sampled answers per prompt.
        temperatures: candidates for T*, chosen on the dev prompts; 1 is always scored.
        max_new_tokens: longest answer.
        engine: what samples: "halobench", whose noise depends on no batch, or "vllm", for GPUs.
    """

    scorers: tuple[str, ...]
    num_prompts: Count | None = None
    samples_per_prompt: Count = 4
    temperatures: tuple[NonNegative, ...] = (1.0, 0.7, 0.5, 0.3, 0.0)
    max_new_tokens: Count = 128
    engine: Literal["halobench", "vllm"] = "halobench"


class Board(Section):
    """What the leaderboard of the suite is about; declared before the runs, not part of their identity.

    Attributes:
        metric: primary metric, as scorer/metric.
        margin: difference below which two losses count as equal.
        family: losses that are ranked against each other; by default those of the recipe's matrix. Other
            losses are compared with each of them, and not ranked.
    """

    metric: str = "oracle/winrate"
    margin: Positive = 0.02
    family: tuple[str, ...] = ()
