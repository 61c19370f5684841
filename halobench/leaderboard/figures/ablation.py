"""A metric along an axis of a suite: imbalance, amount of data, noise, scale or a hyper-parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from halobench.leaderboard.ablations import IMBALANCE, Ablation
from halobench.leaderboard.contrasts import NO_DECODE
from halobench.leaderboard.cube import PRIMARY_DECODE
from halobench.leaderboard.figures.style import (
    CONTROL,
    WIDTH,
    LossStyle,
    Plot,
    beside,
    handle,
    head,
    legend_below,
    loss_styles,
    metric_title,
    round_ticks,
    shortened,
    size_text,
    spread,
)

_EFFICIENCY = ("fraction", "num_pairs")
_NAMES = {"num_pairs": "efficiency"}
_TITLES = {
    IMBALANCE: "Fewer desirable or undesirable examples",
    **dict.fromkeys(_EFFICIENCY, "Data efficiency"),
    "label_noise": "Labels turned round",
    "contradicting_share": "Annotators who contradict each other",
    "scale": "Scale of the model",
}
_SIDES = {"fewer desirable": "Fewer desirable examples", "fewer undesirable": "Fewer undesirable examples"}
_DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))
_MOST_LIMITS = 3


class Variant(NamedTuple):
    """How a series is drawn: in the style of its loss, of which the first has a ribbon and others bars.

    Attributes:
        style: with other dashes for each of a loss.
        width: of the line.
        size: of the marker.
        has_ribbon: or else error bars.
    """

    style: LossStyle
    width: float
    size: float
    has_ribbon: bool


def ablation_plots(ablation: Ablation, levels: pd.DataFrame, trends: pd.DataFrame) -> list[Plot]:
    """Draw the axis, and for amounts of data its twin over tokens."""
    plots = [_curve(ablation, levels, trends, "level")]
    if ablation.axis.name in _EFFICIENCY and "tokens" in levels:
        # at matched updates all levels cost the same, and a control may train nothing
        spend = levels.groupby("series")["tokens"].transform(lambda tokens: tokens.max() > 1.1 * tokens.min())
        spending = levels[levels["is_line"] | spend]
        if not spending["is_line"].all():
            plots.append(_curve(ablation, spending, trends, "tokens"))
    return plots


def _curve(ablation: Ablation, levels: pd.DataFrame, trends: pd.DataFrame, x: str) -> Plot:
    """One figure: every series over its levels, or over the tokens that these take."""
    series, lines = levels[~levels["is_line"]], levels[levels["is_line"]]
    variants = _variants(series)
    holds = _held(ablation, series, trends)
    figure = Figure(figsize=(WIDTH, 4.6 + 0.19 * len(variants)), layout="constrained")
    axes = figure.subplots()
    _draw_lines(axes, lines)
    for number, (name, variant) in enumerate(variants.items()):
        mine = series[series["series"] == name].sort_values(x)
        _draw_series(axes, ablation, mine, x, variant, number - (len(variants) - 1) / 2, holds.get(name))
    if x == "level":
        _draw_limits(axes, ablation, series, variants)
    _label_axis(axes, ablation, series[x].dropna(), x)
    _name_lines(axes, lines)
    axes.set_ylabel(metric_title(ablation.metric.split("/")[1]))
    axes.grid(visible=False, axis="x")
    decode = "" if ablation.decode == NO_DECODE else f", {ablation.decode}"
    said = f"{ablation.suite}{decode}: 95% intervals, {size_text(series['n_seeds'], series['n_prompts'])}"
    if holds:
        said += f"\nfilled: not inferior to {ablation.axis.whole} by {ablation.margin:g}; open: not shown so"
    head(axes, said)
    handles = []
    for name, variant in variants.items():
        slopes = _slopes_text(ablation, trends, name) if x == "level" else ""
        handles.append(handle(variant.style, f"{name}{slopes}", line=ablation.axis.name != "scale"))
        handles[-1].set_markersize(variant.size)
    legend_below(figure, handles, 1 if x == "level" else min(3, len(handles)), fontsize=8)
    return _plot(ablation, levels, x, figure, is_held=bool(holds))


def _plot(ablation: Ablation, levels: pd.DataFrame, x: str, figure: Figure, *, is_held: bool) -> Plot:
    """The figure with its names and words."""
    lines = levels.loc[levels["is_line"], "series"]
    decode = "" if ablation.decode == NO_DECODE else f", {ablation.decode}"
    name = _NAMES.get(ablation.axis.name, ablation.axis.name.replace(".", "-"))
    star = "" if ablation.decode in (NO_DECODE, PRIMARY_DECODE) else "-star"
    place = ablation.axis.title.removesuffix(" (log)")
    against = "tokens of training" if x == "tokens" else place
    said = [f"A line per method over {against}, with its 95% interval"]
    said += [f"level grey lines are controls: {', '.join(lines)}"] if len(lines) else []
    said += ["the legend says its slope"] if x == "level" else []
    said += [f"dots are filled up to where it is not inferior to {ablation.axis.whole}"] if is_held else []
    return Plot(
        f"{name}{'' if x == 'level' else '-tokens'}{star}",
        f"{_TITLES.get(ablation.axis.name, place.capitalize())}{decode}: by {against}",
        f"{'; '.join(said)}.",
        figure,
        levels,
    )


def _variants(series: pd.DataFrame) -> dict[str, Variant]:
    own = series[~series["control"]]
    styles = loss_styles(own["loss"])
    found = {}
    seen: dict[str, int] = {}
    for name, loss in series[["series", "loss"]].drop_duplicates().itertuples(index=False):
        number = seen[loss] = seen.get(loss, -1) + 1
        style = styles.get(loss, CONTROL) if name in set(own["series"]) else CONTROL
        if number:
            style = style._replace(line=_DASHES[number % len(_DASHES)])
        found[name] = Variant(style, 1.8 if number == 0 else 1.2, 7.5 - 1.5 * min(number, 2), number == 0)
    return found


def _draw_series(
    axes: Axes,
    ablation: Ablation,
    mine: pd.DataFrame,
    x: str,
    variant: Variant,
    place: float,
    holds: set[float] | None,
) -> None:
    """One series; bars stand side by side, `place` from the middle, so that none hides another."""
    style, has_line = variant.style, ablation.axis.name != "scale"
    has_ribbon = has_line and variant.has_ribbon
    at = mine[x].to_numpy(float)
    if not has_ribbon and x == "level" and ablation.axis.step == "doubling":
        at = at * 1.025**place
    if has_line:
        axes.plot(
            at, mine["est"], color=style.colour, linestyle=style.line, linewidth=variant.width, zorder=3
        )
    if has_ribbon:
        axes.fill_between(at, mine["lo"], mine["hi"], color=style.colour, alpha=0.12, linewidth=0)
    else:
        ends = [mine["est"] - mine["lo"], mine["hi"] - mine["est"]]
        axes.errorbar(at, mine["est"], yerr=ends, fmt="none", ecolor=style.colour, elinewidth=0.9, capsize=2)
    filled = np.array([holds is None or level in holds for level in mine["level"]])
    for face, chosen in ((style.colour, filled), ("white", ~filled)):
        axes.plot(
            at[chosen],
            mine["est"][chosen],
            style.marker,
            color=style.colour,
            markerfacecolor=face,
            markersize=variant.size,
            zorder=4,
        )


def _draw_lines(axes: Axes, lines: pd.DataFrame) -> None:
    """Controls that do not vary: a line with its band each, named at the right."""
    for number, (_, row) in enumerate(lines.iterrows()):
        if not math.isnan(row["lo"]):
            axes.axhspan(row["lo"], row["hi"], color=CONTROL.colour, alpha=0.07, linewidth=0, zorder=0)
        axes.axhline(
            row["est"],
            color=CONTROL.colour,
            linestyle=_DASHES[number % len(_DASHES)],
            linewidth=1.1,
            zorder=1,
        )


def _name_lines(axes: Axes, lines: pd.DataFrame) -> None:
    """Name the controls at the right, one below the other where they are close."""
    low, high = axes.get_ylim()
    for place, (_, row) in zip(
        spread(list(lines["est"]), 0.05 * (high - low)), lines.iterrows(), strict=True
    ):
        beside(axes, place, shortened(row["series"]))


def _draw_limits(
    axes: Axes, ablation: Ablation, series: pd.DataFrame, variants: Mapping[str, Variant]
) -> None:
    """For few series the level that all data reach, less the margin."""
    own = [name for name in dict.fromkeys(series.loc[~series["control"], "series"])]
    if len(own) > _MOST_LIMITS:
        return
    for name in own:
        mine = series[series["series"] == name]
        full = ablation.axis.full(list(mine["level"]))
        if full is None:
            continue
        top = float(mine.loc[mine["level"] == full, "est"].iloc[0])
        axes.axhspan(
            top - ablation.margin, top, color=variants[name].style.colour, alpha=0.06, linewidth=0, zorder=0
        )


def _label_axis(axes: Axes, ablation: Ablation, places: pd.Series, x: str) -> None:
    levels = sorted(set(places))
    if x == "tokens":
        axes.set_xscale("log")
        round_ticks(axes, levels[0], levels[-1])
        axes.set_xlabel("tokens through the model in training (log)")
        return
    if ablation.axis.step == "doubling":
        axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(levels))
    axes.xaxis.set_minor_locator(NullLocator())
    said = {level: level_text(ablation.axis.name, level) for level in levels}
    axes.set_xticks(levels, [said[level] for level in levels], fontsize=9 if len(levels) < 9 else 8)
    axes.set_xlabel(ablation.axis.title)


def level_text(axis: str, level: float) -> str:
    """A place on an axis, as people say it: 1:10 of an imbalance, 1,200 pairs, 1.2M parameters."""
    if axis in (IMBALANCE, "fewer desirable", "fewer undesirable"):
        return f"1:{1 / level:.3g}" if level < 1 else f"{level:.3g}:1"
    if axis == "scale":
        for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
            if level >= size:
                return f"{level / size:.3g}{letter}"
    return f"{level:,.10g}" if axis == "num_pairs" else f"{level:.3g}"


def _held(ablation: Ablation, series: pd.DataFrame, trends: pd.DataFrame) -> dict[str, set[float]]:
    """For each series with all data the levels, itself included, up to which it is not inferior to it."""
    last = {
        (row["a"], row["axis"]): row["estimate"]
        for _, row in trends[trends["kind"] == "breakdown"].iterrows()
    }
    found: dict[str, set[float]] = {}
    for (name, side), level in last.items():
        places = [x for x in series.loc[series["series"] == name, "level"] if ablation.sides[side](x)]
        full = ablation.axis.full(places) if places else None
        if full is not None:
            ends = sorted((full, full if math.isnan(level) else level))
            found.setdefault(name, set()).update(x for x in places if ends[0] <= x <= ends[1])
    return found


def _slopes_text(ablation: Ablation, trends: pd.DataFrame, name: str) -> str:
    """What the legend says of a series: slope by side, and up to where it holds."""
    mine = trends[trends["a"] == name]
    said = []
    for side in ablation.sides:
        slopes = mine[(mine["axis"] == side) & (mine["kind"] == "slope")]
        for _, row in slopes.iterrows():
            if pd.isna(row["estimate"]):
                continue
            # with fewer desirable examples D:U is halved, with fewer undesirable ones doubled
            is_halving = side == "fewer desirable"
            per = f"halving of {side.split()[1]}" if ablation.axis.name == IMBALANCE else ablation.axis.step
            sign = -1.0 if is_halving else 1.0
            ends = sorted((sign * row["low"], sign * row["high"]))
            interval = "" if math.isnan(row["low"]) else f" [{ends[0]:+.3f}, {ends[1]:+.3f}]"
            held = mine[(mine["axis"] == side) & (mine["kind"] == "breakdown")]
            limit = "" if held.empty else f", holds {until(side, held.iloc[0]['estimate'])}"
            said.append(f"{sign * row['estimate']:+.3f}{interval} per {per}{limit}")
    return f": {'; '.join(said)}" if said else ""


def side_title(side: str) -> str:
    """An axis, or a side of it, in words."""
    return {**_TITLES, **_SIDES}.get(side, side)


def until(side: str, level: float) -> str:
    """Up to where something holds."""
    return "nowhere" if pd.isna(level) else f"to {level_text(side, level)}"
