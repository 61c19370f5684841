"""Suites that vary something, as nobody trained them: imbalance, amount of data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.leaderboard.synthetic import Run, row

FRACTIONS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)
PAIRS = (3000, 1500, 750, 300, 150)
LEVELS = {"kto": (0.40, 0.015), "dpo": (0.42, 0.03), "slic": (0.38, 0.02)}
CONTROL = {"control": True}


def wins(level: float, key: int, *, seeds: int = 5, prompts: int = 40) -> np.ndarray:
    """A (seeds, prompts) table around `level`, its noise of seeds, prompts and cells drawn from `key`."""
    stream = np.random.default_rng(key)
    of_seed = stream.normal(0, 0.004, (seeds, 1))
    of_prompt = np.random.default_rng(7).normal(0, 0.1, prompts)
    table = level + of_seed + of_prompt + stream.normal(0, 0.05, (seeds, prompts))
    return table.astype("float32").astype(float)  # as a store gives it back


def imbalance(fractions: Sequence[float] = FRACTIONS, seeds: int = 5) -> list[Run]:
    """KTO with three weights over either label's fraction, DPO on what is left of the pairs, and controls."""
    runs, key = [], 0
    for desirable, undesirable in [(d, 1.0) for d in fractions] + [(1.0, u) for u in fractions[1:]]:
        kept = {"data.desirable_fraction": desirable, "data.undesirable_fraction": undesirable}
        halvings = -math.log2(desirable * undesirable)
        for ratio, fall in ((1.0, 0.004), (4 / 3, 0.006), (None, 0.02)):
            key += 1
            loss = {"name": "kto", "beta": 0.1} | ({} if ratio is None else {"lambda_ratio": ratio})
            runs += row(loss, wins(0.40 - fall * halvings, key, seeds=seeds), **kept)
        runs += row("dpo", wins(0.39 - 0.025 * halvings, key + 500, seeds=seeds), **kept)
        if halvings:
            longer = {"budget.multiple": 1 / (desirable * undesirable)}
            runs += row("dpo", wins(0.39 - 0.015 * halvings, key + 1000, seeds=seeds), **kept, **longer)
        if undesirable == 1:
            table = wins(0.31 - 0.005 * halvings, key + 2000, seeds=seeds)
            runs += row("sft", table, label="sft on what is kept", **kept, **CONTROL)
    runs += row("dpo", wins(0.39, 5000, seeds=seeds), label="dpo on all pairs", optim={"lr": 2e-3}, **CONTROL)
    runs += row("kto", wins(0.36, 5001, seeds=seeds), label="kto without sft", sft=None, **CONTROL)
    runs += row("sft", wins(0.30, 5002, seeds=seeds), label="reference", evaluate="reference", **CONTROL)
    runs += row("sft", wins(0.23, 5003, seeds=seeds), label="base", evaluate="base", **CONTROL)
    return runs


def efficiency(pairs: Sequence[int] = PAIRS, seeds: int = 5) -> list[Run]:
    """Three losses on fewer and fewer pairs, in one pass and at matched updates, with controls."""
    runs, key = [], 0
    for number in pairs:
        halvings = math.log2(pairs[0] / number)
        for loss, (level, fall) in LEVELS.items():
            for passes in dict.fromkeys((1.0, pairs[0] / number)):
                key += 1
                table = wins(level - (1 if passes == 1 else 0.6) * fall * halvings, key, seeds=seeds)
                spent = {"tokens": int(134 * number * passes * (1.5 if loss == "kto" else 1))}
                changes = {"data.num_pairs": number, "budget.epochs": passes}
                runs += [run._replace(spent=spent) for run in row(loss, table, **changes)]
        changes = {"data.num_pairs": number, **CONTROL}
        table = wins(0.30 - 0.005 * halvings, key + 3000, seeds=seeds)
        runs += row("sft", table, label="reference", evaluate="reference", **changes)
        again = [seed + 50 for seed in range(seeds)]
        runs += row("kto", wins(0.4, key + 3500, seeds=seeds), label="kto_again", seeds=again, **changes)
        if number == pairs[0]:
            runs += row("sft", wins(0.23, 4000, seeds=seeds), label="base", evaluate="base", **changes)
    return runs
