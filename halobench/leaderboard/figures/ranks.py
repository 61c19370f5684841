"""Which ranks each loss may have, and which losses are tied."""

from __future__ import annotations

import pandas as pd

from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.differences import MOST_LOSSES, loss_pairs
from halobench.leaderboard.figures.style import (
    DARK,
    Plot,
    beside,
    canvas,
    head,
    label_rows,
    metric_title,
    row_styles,
    size_text,
)
from halobench.leaderboard.tables import Tables, primary_key


def rank_plot(setting: Setting, tables: Tables) -> Plot | None:
    """Rank intervals: a line from the best to the worst rank, a dot where the estimate stands."""
    if "rank_low" not in tables.rows:
        return None
    rows = tables.rows[tables.rows["rank_low"].notna()]
    pairs = loss_pairs(setting, tables)
    if not 3 <= len(rows) <= MOST_LOSSES or pairs.empty:
        return None
    key = primary_key(setting)
    table = rows[["row", "loss", "rank_low", "rank_high", key, "seeds"]].reset_index(drop=True)
    table = table.astype({"rank_low": int, "rank_high": int}).assign(place=range(1, len(table) + 1))
    groups = tied_groups(list(table["row"]), pairs)
    styles = row_styles(setting.rows)
    figure, axes = canvas(len(table))
    for y, (_, row) in enumerate(table.iterrows()):
        style = styles[row["row"]]
        axes.hlines(y, row["rank_low"], row["rank_high"], color=style.colour, linewidth=3, zorder=2)
        axes.plot(row["place"], y, style.marker, color=style.colour, markersize=9, zorder=3)
        beside(axes, y, f"{row[key]:.3f}", DARK)
    worst = len(table)
    for column, (first, last) in enumerate(groups):
        x = worst + 0.45 + 0.18 * column
        axes.plot([x - 0.06, x, x, x - 0.06], [first - 0.2, first - 0.2, last + 0.2, last + 0.2], color=DARK)
    axes.set_xlim(0.5, worst + 0.6 + 0.18 * max(0, len(groups) - 1))
    axes.set_xticks(range(1, worst + 1))
    tied = int((~pairs["separated"].astype(bool)).sum())
    axes.set_xlabel("rank, joint 95% intervals; a bracket joins losses of which no pair is separated")
    head(
        axes,
        f"{setting.suite}: {tied} of {len(pairs)} pairs not separable, "
        f"{size_text(pairs['num_seeds'], pairs['num_prompts'])}; right: {metric_title(key)}",
    )
    label_rows(axes, list(table["row"]))
    return Plot(
        "ranks",
        "Which ranks each loss may have",
        f"One line per ranked loss, from the best to the worst rank that it may have; a dot where its "
        f"estimate stands. {tied} of {len(pairs)} pairs are not separable; brackets at the right join tied "
        "losses.",
        figure,
        table,
    )


def tied_groups(names: list[str], pairs: pd.DataFrame) -> list[tuple[int, int]]:
    """Longest runs of neighbours, two at least, of which no pair is separated: first and last place.

    Args:
        names: in the order of their estimates.
        pairs: their comparisons, with a, b and separated.
    """
    apart = {
        frozenset(pair)
        for pair in pairs.loc[pairs["separated"].astype(bool), ["a", "b"]].itertuples(index=False)
    }
    groups: list[tuple[int, int]] = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and not any(
            frozenset((names[earlier], names[last + 1])) in apart for earlier in range(first, last + 1)
        ):
            last += 1
        if last > first and not (groups and groups[-1][1] >= last):
            groups.append((first, last))
    return groups
