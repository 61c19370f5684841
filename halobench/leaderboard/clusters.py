"""Prompts of one conversation or task are drawn together: each group counts as one draw, by its size."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from halobench.results.record import parse_score_facts
from halobench.results.store import ScoreFile, Store


def by_group(
    values: Float[np.ndarray, "seeds prompts"], groups: Sequence[Hashable]
) -> Float[np.ndarray, "seeds groups"]:
    """Put one column for each group in the place of its prompts.

    d_g = m + C / n * sum over i in g of (d_i - m), for n prompts in C groups, m the seed's mean over prompts

    The mean over groups is that over prompts, and the variance of it between groups is Miller's clustered
    one: C / (C - 1) * sum_g (sum over i in g of (d_i - m))^2 / n^2.

    Args:
        values: (S, n); differences and other linear combinations may be made before or after.
        groups: (n,) group of each prompt.

    Returns:
        (S, C), groups in order of appearance; `values` themselves where every prompt is its own group.

    Source: Miller 2024, arXiv:2411.00640.
    """
    num_groups = len(set(groups))
    if num_groups == len(groups):
        return values
    first = values[:, :1]
    away = values - first  # what does not vary must come out as exactly one value
    means = away.mean(1, keepdims=True)
    return np.asarray(first + means + num_groups / len(groups) * totals(away - means, groups))


def totals(
    values: Float[np.ndarray, "seeds prompts"], groups: Sequence[Hashable]
) -> Float[np.ndarray, "seeds groups"]:
    """Add up the prompts of each group, groups in order of appearance."""
    members = pd.factorize(np.asarray(groups))[0]
    order = np.argsort(members, kind="stable")
    starts = np.flatnonzero(np.diff(members[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[:, order], starts, axis=1))


def groups_of(store: Store, file: ScoreFile) -> dict[str, str]:
    """Group of every prompt that was asked for a score file; probes are in no prompt set, and stand alone.

    Returns:
        Prompt to group; empty where every prompt is its own.
    """
    config = parse_score_facts(file.rows.with_suffix(".json").read_text(encoding="utf-8")).config
    prompts = store.root / "promptsets" / f"{str(config.get('prompts'))[:12]}.parquet"
    if not prompts.is_file():
        return {}
    frame = pd.read_parquet(prompts, columns=["prompt_id", "group_id"])
    if frame["group_id"].is_unique:
        return {}
    return dict(zip(frame["prompt_id"], frame["group_id"], strict=True))
