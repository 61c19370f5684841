"""Suites that vary something, as nobody trained them: imbalance, amount of data."""

from __future__ import annotations

import math

import numpy as np

from tests.leaderboard.synthetic import Run, row

FRACTIONS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)
PAIRS = (3000, 1500, 750, 300, 150)


def wins(level: float, key: int, *, seeds: int = 5, prompts: int = 40) -> np.ndarray:
    """A (seeds, prompts) table around `level`, its noise of seeds, prompts and cells drawn from `key`."""
    stream = np.random.default_rng(key)
    of_seed = stream.normal(0, 0.004, (seeds, 1))
    return (
        level
        + of_seed
        + np.random.default_rng(7).normal(0, 0.1, prompts)
        + stream.normal(0, 0.05, (seeds, prompts))
    )


def imbalance(seeds: int = 5) -> list[Run]:
    """KTO with three weights over either label's fraction, DPO on what is left of the pairs, and controls."""
    runs, key = [], 0
    places = [(d, 1.0) for d in FRACTIONS] + [(1.0, u) for u in FRACTIONS[1:]]
    for desirable, undesirable in places:
        kept = {"data.desirable_fraction": desirable, "data.undesirable_fraction": undesirable}
        halvings = -math.log2(desirable * undesirable)
        for ratio, loss_per_halving in ((1.0, 0.004), (4 / 3, 0.006), (None, 0.02)):
            key += 1
            loss = {"name": "kto", "beta": 0.1} | ({} if ratio is None else {"lambda_ratio": ratio})
            runs += row(loss, wins(0.40 - loss_per_halving * halvings, key, seeds=seeds), **kept)
        key += 2
        runs += row("dpo", wins(0.39 - 0.025 * halvings, key, seeds=seeds), **kept)
        if halvings:
            runs += row(
                "dpo",
                wins(0.39 - 0.015 * halvings, key + 1000, seeds=seeds),
                **kept,
                **{"budget.multiple": 1 / (desirable * undesirable)},
            )
        if undesirable == 1:
            runs += row(
                "sft",
                wins(0.31 - 0.005 * halvings, key + 2000, seeds=seeds),
                label="sft on what is kept",
                control=True,
                **kept,
            )
    runs += row(
        "dpo", wins(0.39, 5000, seeds=seeds), label="dpo on all pairs", control=True, optim={"lr": 2e-3}
    )
    runs += row("kto", wins(0.36, 5001, seeds=seeds), label="kto without sft", control=True, sft=None)
    runs += row("sft", wins(0.30, 5002, seeds=seeds), label="reference", control=True, evaluate="reference")
    runs += row("sft", wins(0.23, 5003, seeds=seeds), label="base", control=True, evaluate="base")
    return runs


def efficiency(seeds: int = 5, losses: tuple[str, ...] = ("kto", "dpo", "slic")) -> list[Run]:
    """Losses on fewer and fewer pairs, in one pass and at matched updates, with controls."""
    slopes = {"kto": (0.40, 0.015), "dpo": (0.42, 0.03), "slic": (0.38, 0.02), "csft": (0.25, 0.005)}
    slopes |= {"offline_ppo": (0.39, 0.018), "sft": (0.31, 0.004)}
    runs, key = [], 0
    for pairs in PAIRS:
        halvings = math.log2(PAIRS[0] / pairs)
        for loss in losses:
            level, per_halving = slopes[loss]
            for passes in dict.fromkeys((1.0, PAIRS[0] / pairs)):
                key += 1
                gain = 1.0 if passes == 1 else 0.6
                tokens = int(134 * pairs * passes * (1.5 if loss == "kto" else 1))
                runs += [
                    run._replace(spent={"tokens": tokens})
                    for run in row(
                        loss,
                        wins(level - gain * per_halving * halvings, key, seeds=seeds),
                        **{"data.num_pairs": pairs, "budget.epochs": passes},
                    )
                ]
        changes = {"data.num_pairs": pairs, "control": True}
        runs += row(
            "sft", wins(0.30 - 0.005 * halvings, key + 3000, seeds=seeds), label="reference",
            evaluate="reference", **changes,
        )  # fmt: skip
        runs += row("sft", wins(0.23, 4000, seeds=seeds), label="base", evaluate="base", **changes)
    return runs
