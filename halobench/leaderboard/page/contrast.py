"""The page of a comparison: what it says, what the error is made of, and the answers behind it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from halobench.leaderboard.contrasts import Comparison, compared_seeds
from halobench.leaderboard.cube import BoardRow, Setting
from halobench.leaderboard.page.board import metric_title
from halobench.leaderboard.page.facts import (
    Compared,
    robust_text,
    run_path,
    sentence,
    setting_path,
    shown_run,
    span,
)
from halobench.leaderboard.page.samples import Showcase
from halobench.leaderboard.page.svg import histogram
from halobench.leaderboard.text import BuiltBoard
from halobench.results.record import RunRecord

_EXTREMES = 5


def contrast_context(board: BuiltBoard, pair: Compared, showcase: Showcase) -> dict[str, Any]:
    """What the template of a comparison needs."""
    setting = board.setting
    named = {row.name: row for row in setting.rows}
    rows = (named[pair.first], named[pair.second])
    margin = setting.board.margin
    first = pair.comparisons[0]
    table = _paired(setting, *rows, first.decode)
    by_prompt = table.mean(axis=0)
    left, right = _common_runs(*rows)
    sampled = [d for d in showcase.decodes(left.run_id) if d in showcase.decodes(right.run_id)]
    return {
        "suite": setting.suite,
        "setting_page": setting_path(board),
        "metric": metric_title(board),
        "margin": margin,
        "pair": pair,
        "family": first.family,
        "runs": [
            {"name": row.name, "run_id": run.run_id, "page": run_path(run.run_id)}
            for row in rows
            if (run := shown_run(row)) is not None
        ],
        "verdict": first.verdict(margin),
        "sentence": sentence(first, margin),
        "lines": [_line(pair, comparison, margin) for comparison in pair.comparisons],
        "decode": first.decode,
        "seeds": [(label, f"{value:+.3f}") for label, value in table.mean(axis=1).items()],
        "histogram": histogram(
            f"Differences of {len(by_prompt)} prompts, averaged over seeds", by_prompt.to_numpy()
        ),
        "extremes": _extremes(by_prompt, left.run_id, showcase),
        "left": left.run_id,
        "right": right.run_id,
        "same_seed": left.seed == right.seed,
        "decodes": [(decode, showcase.pairs(left.run_id, right.run_id, decode)) for decode in sampled[:1]],
    }


def _line(pair: Compared, comparison: Comparison, margin: float) -> dict[str, Any]:
    estimate = comparison.estimate
    return {
        "decode": comparison.decode,
        "sentence": sentence(comparison, margin),
        "verdict": comparison.verdict(margin),
        "difference": f"{estimate.mean:+.4f}",
        "interval": span(*estimate.interval()),
        "adjusted": span(comparison.adjusted.low, comparison.adjusted.high),
        "p": f"{comparison.adjusted.p:.2g}",
        "level": "" if comparison.level == "method" else "these weights, not the losses (one seed each)",
        "p_exact": "" if comparison.p_exact is None else f"{comparison.p_exact:.2g}",
        "robust": robust_text(pair.comparisons, comparison),
        "detectable": f"{estimate.detectable:.3f}",
        "stderr": f"{estimate.stderr:.4f}",
        "df": f"{estimate.df:.1f}",
        "seed_sd": "" if math.isnan(estimate.seed_sd) else f"{estimate.seed_sd:.4f}",
        "prompt_sd": f"{estimate.prompt_sd:.4f}",
        "residual_sd": f"{estimate.residual_sd:.4f}",
        "size": f"{estimate.num_seeds} seeds, {estimate.num_prompts} prompts",
    }


def _paired(setting: Setting, first: BoardRow, second: BoardRow, decode: str) -> pd.DataFrame:
    """Differences A - B by seeds and prompts, as `contrasts.difference` pairs them."""
    scorer, metric = setting.board.metric.split("/")
    seeds = compared_seeds(first, second)
    values = [
        setting.single_prompts(row, scorer, decode, metric, chosen)
        for row, chosen in zip((first, second), seeds, strict=True)
    ]
    depth = min(map(len, seeds))
    pairs = zip(seeds[0][:depth], seeds[1][:depth], strict=True)
    labels = [f"{a}" if a == b else f"{a} and {b}" for a, b in pairs]
    cells: list[Float[np.ndarray, "seeds prompts"]] = [v[:depth] for v in values if v is not None]
    return pd.DataFrame(
        cells[0] - cells[1], index=labels, columns=setting.prompt_ids(first, scorer, decode, metric)
    )


def _common_runs(first: BoardRow, second: BoardRow) -> tuple[RunRecord, RunRecord]:
    """Runs of the lowest common seed, or the lowest of each where there is none."""
    common = set(first.completed) & set(second.completed)
    seeds = [min(common or row.completed) for row in (first, second)]
    return first.records[seeds[0]], second.records[seeds[1]]


def _extremes(by_prompt: pd.Series, run_id: str, showcase: Showcase) -> list[dict[str, str]]:
    """The prompts on which A gains most, then those on which it loses most."""
    order = by_prompt.sort_index().sort_values(ascending=False, kind="stable")
    gains, losses = order[order > 0][:_EXTREMES], order[order < 0][-_EXTREMES:]
    return [
        {"prompt": showcase.prompt(run_id, str(prompt)), "difference": f"{value:+.3f}"}
        for prompt, value in [*gains.items(), *losses.items()]
    ]
