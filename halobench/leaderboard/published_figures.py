"""Figures of the KTO paper, drawn again from the counts that its authors published."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, PercentFormatter

from halobench.leaderboard.figures.style import GREY, LOSS_STYLES, LossStyle, Plot, drawing, handle
from halobench.leaderboard.published import prints_right
from halobench.results.published import NAMES

_UNALIGNED = LossStyle(GREY, "*")
_BESIDE = 0.022  # share of examples at which no dot stands in the way of words
_STAGES = ((True, "after SFT"), (False, "without SFT"))
_INTERVAL = ["winrate", "winrate_low", "winrate_high", "wins", "total"]


def published_plots(counts: pd.DataFrame) -> list[Plot]:
    """Draw every figure for which there are counts.

    Args:
        counts: of `published_tables`, or some of its rows.
    """
    if counts.empty:
        return []
    makers: list[Callable[[pd.DataFrame], Plot | None]] = [
        halo_plot,
        kto_dpo_plot,
        length_plot,
        imbalance_plot,
        mistral_plot,
    ]
    with drawing():
        plots = [make(counts) for make in makers]
    return [plot for plot in plots if plot is not None]


def halo_plot(counts: pd.DataFrame) -> Plot | None:
    """The paper's figure 2 (in its first version 3), and below it the half that the paper does not show."""
    return _winrates_by_scale(
        counts,
        "halos",
        ["base", "sft", "csft", "slic", "dpo", "offline_ppo"],
        "figure 2 (3 in v1)",
        "HALOs (DPO, offline PPO) and non-HALOs (CSFT, SLiC) by model scale; the paper shows the upper half",
    )


def kto_dpo_plot(counts: pd.DataFrame) -> Plot | None:
    """The paper's figure 3 (in its first version 4)."""
    return _winrates_by_scale(
        counts,
        "kto-dpo",
        ["dpo", "kto", "offline_ppo"],
        "figure 3 (4 in v1)",
        "KTO, DPO and offline PPO by model scale",
    )


def _winrates_by_scale(
    counts: pd.DataFrame, name: str, losses: list[str], number: str, title: str
) -> Plot | None:
    table = _by_scale(counts, losses)[["family", "size", "sft", "loss", *_INTERVAL]]
    if table.empty:
        return None

    def draw(axes: Axes, x: float, row: pd.Series, style: LossStyle) -> None:
        errors = [[row["winrate"] - row["winrate_low"]], [row["winrate_high"] - row["winrate"]]]
        axes.errorbar(
            x, row["winrate"], yerr=errors, fmt=style.marker, color=style.colour, capsize=2, markersize=5.5
        )

    figure, panels = _scale_panels(table, losses, draw, [])
    for axes in panels:
        axes.axhline(0.5, color=GREY, linestyle="--", linewidth=1, zorder=1)
        axes.set_ylim(0, max(0.55, float(table["winrate_high"].max()) + 0.03))
    figure.supylabel("win rate against the SFT targets", fontsize=10)
    figure.suptitle(f"KTO paper, {number}: 95% intervals, {_sizes(table)}; dashed: parity", fontsize=10)
    return Plot(
        name,
        f"KTO paper, {number}: {title}",
        "One panel for the recipes after SFT and one for those without, by family of models. In each, the "
        "models by size; for every loss its win rate with a 95% interval. The dashed line is parity.",
        figure,
        table,
    )


def length_plot(counts: pd.DataFrame) -> Plot | None:
    """The paper's figure 4 (in its first version 5), for all models; only mean and median are published."""
    losses = ["sft", "dpo", "kto"]
    table = _by_scale(counts, losses)[
        ["family", "size", "sft", "loss", "length_mean", "length_median", "baseline_length_mean", "total"]
    ]
    if table.empty:
        return None

    def draw(axes: Axes, x: float, row: pd.Series, style: LossStyle) -> None:
        ends = [row["length_median"], row["length_mean"]]
        axes.plot([x, x], ends, color=style.colour, linewidth=1)
        axes.plot(x, row["length_mean"], style.marker, color=style.colour, markersize=6)
        axes.plot(
            x, row["length_median"], style.marker, color=style.colour, markersize=6, markerfacecolor="white"
        )

    figure, panels = _scale_panels(
        table,
        losses,
        draw,
        [
            Line2D([], [], color=GREY, marker="o", linestyle="", label="mean"),
            Line2D([], [], color=GREY, marker="o", linestyle="", markerfacecolor="white", label="median"),
        ],
    )
    for axes, (_, part) in zip(panels, _parts(table), strict=True):
        axes.axhline(part["baseline_length_mean"].mean(), color=GREY, linestyle="--", linewidth=1, zorder=1)
        axes.set_yscale("log")
        axes.set_ylim(40, 1500)
        axes.set_yticks([50, 100, 200, 500, 1000], ["50", "100", "200", "500", "1000"])
        axes.yaxis.set_minor_formatter(NullFormatter())
    figure.supylabel("tokens per answer", fontsize=10)
    figure.suptitle(
        f"KTO paper, figure 4 (5 in v1): {_sizes(table)}; dashed: mean of the SFT targets", fontsize=10
    )
    return Plot(
        "lengths",
        "KTO paper, figure 4 (5 in v1), for all models: length of the answers; the spread was not published",
        "One panel for the recipes after SFT and one for those without, by family of models. In each, the "
        "models by size; for every loss a filled dot for the mean number of tokens, an open one for the "
        "median. "
        "The dashed line is the mean of the SFT targets.",
        figure,
        table,
    )


def _by_scale(counts: pd.DataFrame, losses: list[str]) -> pd.DataFrame:
    return counts[(counts["setting"] == "scale") & counts["loss"].isin(losses)].reset_index(drop=True)


def _parts(table: pd.DataFrame) -> list[tuple[tuple[bool, str], pd.DataFrame]]:
    """Panels of a table: the stages as lines, families as columns; base and SFT stand in both lines."""
    stages = [sft for sft, _ in _STAGES if (table["sft"] == sft).any()]
    families = list(dict.fromkeys(table["family"]))
    everywhere = table["loss"].isin(["base", "sft"])
    return [
        ((sft, family), table[((table["sft"] == sft) | everywhere) & (table["family"] == family)])
        for sft in stages
        for family in families
    ]


def _scale_panels(
    table: pd.DataFrame,
    losses: Sequence[str],
    draw: Callable[[Axes, float, pd.Series, LossStyle], None],
    extra: Sequence[Line2D],
) -> tuple[Figure, list[Axes]]:
    """Draw every row in its panel: models by size from left to right, losses side by side."""
    parts = _parts(table)
    families = list(dict.fromkeys(family for (_, family), _ in parts))
    sizes = {family: list(dict.fromkeys(table.loc[table["family"] == family, "size"])) for family in families}
    lines = len(parts) // len(families)
    figure = Figure(figsize=(8.5, 1.4 + 2.3 * lines), layout="constrained")
    grid = figure.subplots(
        lines,
        len(families),
        sharey=True,
        squeeze=False,
        gridspec_kw={"width_ratios": [len(sizes[family]) for family in families]},
    )
    present = [loss for loss in losses if (table["loss"] == loss).any()]
    for axes, ((sft, family), part) in zip(grid.flat, parts, strict=True):
        for _, row in part.iterrows():
            offset = (present.index(row["loss"]) - (len(present) - 1) / 2) * 0.7 / len(present)
            draw(axes, sizes[family].index(row["size"]) + offset, row, _style(row["loss"]))
        axes.set_xticks(range(len(sizes[family])), sizes[family])
        axes.set_xlim(-0.5, len(sizes[family]) - 0.5)
        axes.grid(visible=False, axis="x")
        for edge in range(1, len(sizes[family])):
            axes.axvline(edge - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
        axes.set_title(f"{family}, {dict(_STAGES)[sft]}", fontsize=9, loc="left", parse_math=False)
    handles = [handle(_style(loss), NAMES.get(loss, loss), line=False) for loss in present]
    figure.legend(handles=[*handles, *extra], loc="outside lower center", ncols=8, frameon=False, fontsize=9)
    return figure, list(grid.flat)


def imbalance_plot(counts: pd.DataFrame) -> Plot | None:
    """The paper's figure 5 (in its first version 6), with the line that it does not draw."""
    kept = counts[counts["setting"] == "imbalance"]
    if kept.empty:
        return None
    lines = counts[
        (counts["setting"] == "scale") & (counts["loss"] == "dpo") & counts["model"].isin(kept["model"])
    ]
    table = pd.concat([kept, lines], ignore_index=True)
    table = table[["row", "desirable_fraction", "lambda_d", "undesirable_fraction", "lambda_u", *_INTERVAL]]
    figure = Figure(figsize=(8.5, 3.7), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    kto, dpo = LOSS_STYLES["kto"], LOSS_STYLES["dpo"]
    for axes, side in zip(panels, ("desirable", "undesirable"), strict=True):
        other = "undesirable" if side == "desirable" else "desirable"
        part = kept[kept[f"{other}_fraction"] == 1]
        errors = [part["winrate"] - part["winrate_low"], part["winrate_high"] - part["winrate"]]
        axes.errorbar(
            part[f"{side}_fraction"],
            part["winrate"],
            yerr=errors,
            fmt=kto.marker,
            color=kto.colour,
            capsize=3,
            markersize=6,
            zorder=3,
        )
        for (_, line), style in zip(lines.iterrows(), ("--", ":"), strict=False):
            axes.axhspan(line["winrate_low"], line["winrate_high"], color=dpo.colour, alpha=0.1, linewidth=0)
            axes.axhline(line["winrate"], color=dpo.colour, linestyle=style, linewidth=1.2)
            axes.annotate(
                f"{line['row']}, n = {line['total']}",
                (_BESIDE, line["winrate"]),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8,
            )
        axes.set_xscale("log")
        axes.set_xlim(1.4, 0.007)
        axes.set_xticks([1, 0.5, 0.25, 0.1, 0.05, 0.01])
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"{side} examples kept")
        axes.grid(visible=False, axis="x")
    panels[0].set_ylim(0.15, 0.55)
    panels[0].set_ylabel("win rate of KTO without SFT")
    figure.suptitle(
        f"KTO paper, figure 5 (6 in v1): 95% intervals, {_sizes(kept)}; bands: DPO on all pairs",
        fontsize=10,
    )
    return Plot(
        "imbalance",
        "KTO paper, figure 5 (6 in v1), Llama 7B: fewer desirable or undesirable examples; the paper shows "
        "no SFT+DPO",
        "Two panels, for the share of the desirable and of the undesirable examples that was kept. A dot for "
        "the win rate of KTO with a 95% interval; lines with bands: DPO on all pairs, with and without SFT.",
        figure,
        table,
    )


def mistral_plot(counts: pd.DataFrame) -> Plot | None:
    """The paper's table 3 (in its first version 1) as a figure, with the rows that it leaves out."""
    rows = counts[counts["setting"] == "oasst"]
    if rows.empty:
        return None
    rows = rows.sort_values(["family", "winrate"], ascending=[True, False], ignore_index=True)
    table = rows[
        ["family", "row", "answers", *_INTERVAL, "half_width_90", "printed_rate", "printed_half_width"]
    ]
    figure = Figure(figsize=(8.5, 1.3 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for y, (_, row) in enumerate(rows.iterrows()):
        style = _style(row["loss"])
        axes.errorbar(
            row["winrate"],
            y,
            xerr=[[row["winrate"] - row["winrate_low"]], [row["winrate_high"] - row["winrate"]]],
            fmt=style.marker,
            color=style.colour,
            markersize=7,
            capsize=3,
        )
        axes.annotate(
            _printed(row),
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color="#4d4d4d",
        )
    axes.axvline(0.5, color=GREY, linestyle="--", linewidth=1, zorder=1)
    labels = [
        f"{row['family']}, {row['row']}{', one answer' if row['answers'] == 'one_per_prompt' else ''}"
        for _, row in rows.iterrows()
    ]
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("win rate against the SFT targets")
    figure.suptitle(
        f"KTO paper, table 3 (1 in v1): OpenAssistant, 95% intervals, {_sizes(rows)}; dashed: parity",
        fontsize=10,
    )
    return Plot(
        "mistral",
        "KTO paper, table 3 (1 in v1): Mistral on OpenAssistant; the +- printed are of 90% intervals",
        "One line per checkpoint: a dot for the win rate with its 95% interval; at the right what the paper "
        "prints. The dashed line is parity.",
        figure,
        table,
    )


def _printed(row: pd.Series) -> str:
    """What the paper says of a row, and what the counts say where that is something else."""
    if pd.isna(row["printed_rate"]):
        return "not printed"
    counted = "" if prints_right(row) else f", counts: {row['half_width_90']:.3f}"
    return f"printed {row['printed_rate']:.3f} +- {row['printed_half_width']:.3f}{counted}"


def _style(loss: str) -> LossStyle:
    return LOSS_STYLES.get(loss, _UNALIGNED)


def _sizes(table: pd.DataFrame) -> str:
    """How many prompts each dot stands for."""
    totals = sorted(set(table["total"]))
    return f"n = {' or '.join(map(str, totals))} prompts, one seed"
