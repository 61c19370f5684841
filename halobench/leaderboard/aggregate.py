"""The losses over several settings together: interquartile mean, P(improvement), performance profiles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
import pandas as pd

from halobench.leaderboard.bootstrap import Bootstrapped, iqm, p_improvement, profile
from halobench.leaderboard.contrasts import decodes, unranked_reason
from halobench.leaderboard.cube import Setting

_THRESHOLDS = 25


class Aggregate(NamedTuple):
    """Losses that were ranked in all of several settings.

    Attributes:
        suite: its name.
        metric: as scorer/metric, at the primary decode.
        decode: how the texts were sampled.
        table: IQM of each loss, and P(improvement) of each pair: kind, a, b, est, lo, hi, sizes, status.
        profiles: for each loss and threshold the share of runs above it.
        left_out: losses that are not ranked in all settings.
    """

    suite: str
    metric: str
    decode: str
    table: pd.DataFrame
    profiles: pd.DataFrame
    left_out: tuple[str, ...]


def aggregate(settings: Sequence[Setting]) -> Aggregate | None:
    """Put the ranked losses of a suite's settings together; None for one setting, or fewer than two losses.

    Scores are as measured: every setting of a suite has one metric, so nothing is normalised.
    """
    scorer, metric = settings[0].board.metric.split("/")
    suite, decode = settings[0].suite, decodes(settings[0])[0]
    by_setting = [_tables(setting, scorer, decode, metric) for setting in settings]
    by_setting = [tables for tables in by_setting if tables]
    if len(by_setting) < 2:
        return None
    losses = sorted(set.intersection(*(set(tables) for tables in by_setting)))
    if len(losses) < 2:
        return None
    found = {loss: [tables[loss] for tables in by_setting] for loss in losses}
    name = f"{suite}/{settings[0].board.metric}/{decode}"
    rows = [_row("iqm", loss, "", iqm(found[loss], f"{name}/iqm/{loss}"), found[loss]) for loss in losses]
    for first, second in permutations(losses, 2):
        pairs = _shared_prompts(found[first], found[second])
        if pairs:
            chance = p_improvement(pairs, f"{name}/improvement/{first}/{second}")
            rows.append(_row("p_improvement", first, second, chance, found[first]))
    means = np.concatenate([table.mean(1) for tables in found.values() for table in tables])
    thresholds = np.linspace(float(means.min()), float(means.max()), _THRESHOLDS)
    profiles = [
        {"loss": loss, "threshold": float(tau), **_ends(point), "n_settings": len(found[loss])}
        for loss in losses
        for tau, point in zip(
            thresholds, profile(found[loss], list(thresholds), f"{name}/profile/{loss}"), strict=True
        )
    ]
    everything = set().union(*(set(tables) for tables in by_setting))
    common = {"suite": suite, "metric": settings[0].board.metric, "decode": decode}
    return Aggregate(
        suite,
        settings[0].board.metric,
        decode,
        pd.DataFrame([{**common, **row} for row in rows]),
        pd.DataFrame(profiles),
        tuple(sorted(everything - set(losses))),
    )


def _tables(setting: Setting, scorer: str, decode: str, metric: str) -> dict[str, np.ndarray]:
    """Ranked rows of a board by label; of a label with several rows none can stand for it."""
    ranked = [row for row in setting.rows if unranked_reason(setting, row) is None]
    labels = [row.label for row in ranked]
    tables = {row.label: setting.table(row, scorer, decode, metric) for row in ranked}
    return {label: table for label, table in tables.items() if table is not None and labels.count(label) == 1}


def _shared_prompts(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of tables; none at all where two of a setting were not asked the same prompts."""
    pairs = list(zip(first, second, strict=True))
    return pairs if all(a.shape[1] == b.shape[1] for a, b in pairs) else []


def _ends(found: Bootstrapped) -> dict[str, object]:
    return {"est": found.value, "lo": found.low, "hi": found.high, "status": found.reason}


def _row(kind: str, a: str, b: str, found: Bootstrapped, tables: Sequence[np.ndarray]) -> dict[str, object]:
    return {
        "kind": kind,
        "a": a,
        "b": b,
        **_ends(found),
        "n_settings": len(tables),
        "n_seeds": min(len(table) for table in tables),
        "n_prompts": min(table.shape[1] for table in tables),
    }
