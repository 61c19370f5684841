"""How every figure looks: what a colour, a marker, a line and a hatch stand for, the canvas, and the file."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from halobench.leaderboard.cube import BoardRow, Setting

# Needed when a figure is drawn and when it is saved: without the salt every saved SVG is another.
STYLE = {"svg.hashsalt": "halobench", "svg.fonttype": "path", "font.family": "DejaVu Sans"}
GREY = "#767676"
DARK = "#4d4d4d"
MARGIN = "#e8eef4"
DECIDED = "#0173b2"
WIDTH = 8.5
TITLES = {
    "winrate": "win rate against the preferred answers",
    "accuracy": "implied-reward accuracy",
    "auc": "AUC of the implied reward",
}


class LossStyle(NamedTuple):
    """What a loss looks like; each of the four tells it apart alone.

    Attributes:
        colour: at least 3:1 against white.
        marker: of its dots.
        line: dashes of its curves.
        hatch: of its bars.
    """

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]] = "-"
    hatch: str = ""


# Fixed by name, so that a colour means the same on every board.
LOSS_STYLES = {
    "kto": LossStyle("#0173b2", "o", "-", ""),
    "dpo": LossStyle("#d55e00", "s", "--", "///"),
    "csft": LossStyle("#00785a", "^", ":", "..."),
    "slic": LossStyle("#8a4fa3", "D", "-.", "xxx"),
    "offline_ppo": LossStyle("#a36a00", "v", (0, (6, 1, 1, 1, 1, 1)), "\\\\\\"),
    "sft": LossStyle("#4d4d4d", "X", (0, (1, 3)), "ooo"),
}
_FURTHER = (
    LossStyle("#b3446c", "P", (0, (8, 2)), "++"),
    LossStyle("#2b6777", "<", (0, (3, 1)), "--"),
    LossStyle("#7a5c00", ">", (0, (5, 1, 1, 1)), "||"),
    LossStyle("#5a5acd", "*", (0, (2, 1)), "**"),
    LossStyle("#a01010", "p", (0, (8, 1, 2, 1)), "OO"),
    LossStyle("#3d6b1f", "h", (0, (4, 3)), "/."),
    LossStyle("#9c4f96", "d", (0, (1, 1)), "\\."),
    LossStyle("#1f4e9c", "H", (0, (6, 2, 2, 2)), "x."),
)
CONTROL = LossStyle(GREY, "o", "--", "")


class Plot(NamedTuple):
    """A figure with the table it shows.

    Attributes:
        name: of its files.
        title: in words, for the page.
        description: what can be seen, for those who cannot.
        figure: to be saved.
        table: what was drawn.
    """

    name: str
    title: str
    description: str
    figure: Figure
    table: pd.DataFrame


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as its suffix says, svg, png or pdf; the same bytes every time."""
    undated = {".svg": {"Date": None}, ".png": {"Software": None}, ".pdf": {"CreationDate": None}}
    figure.set_dpi(200 if path.suffix == ".png" else 100)
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, metadata=undated[path.suffix], bbox_inches="tight")


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the one style."""
    with matplotlib.rc_context(STYLE), sns.axes_style("whitegrid", {"axes.edgecolor": "#888888"}):
        yield


def loss_styles(names: Iterable[str]) -> dict[str, LossStyle]:
    """Give every name its style: the fixed one, or for a plug-in one of the further slots.

    The slot follows from the name alone unless two names want the same; the first by name then has it and the
    other the next. So another row seldom changes what the others look like.
    """
    taken: dict[int, str] = {}
    for name in sorted(set(names) - LOSS_STYLES.keys()):
        slot = zlib.crc32(name.encode()) % len(_FURTHER)
        if len(taken) < len(_FURTHER):
            while slot in taken:
                slot = (slot + 1) % len(_FURTHER)
            taken[slot] = name
        else:
            taken[len(taken)] = name
    further = {name: _FURTHER[slot % len(_FURTHER)] for slot, name in taken.items()}
    return LOSS_STYLES | further


def row_styles(rows: Sequence[BoardRow]) -> dict[str, LossStyle]:
    """Give every row of a board its style, by name; rows of one label look alike, controls are grey."""
    styles = loss_styles(row.label for row in rows if not row.control)
    return {row.name: CONTROL if row.control else styles[row.label] for row in rows}


def style_of(setting: Setting, name: str) -> LossStyle:
    """The style of a row; what is no row of its own looks like a control."""
    return row_styles(setting.rows).get(name, CONTROL)


def canvas(num_rows: int) -> tuple[Figure, Axes]:
    """Make a figure for so many labelled lines."""
    figure = Figure(figsize=(WIDTH, 1.3 + 0.42 * num_rows), layout="constrained")
    return figure, figure.subplots()


def label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the lines of a figure from top to bottom; names are texts, no formulas."""
    axes.set_yticks(range(len(names)), [wrapped(name) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_ylabel("")
    axes.grid(visible=False, axis="y")


def wrapped(name: str, width: int = 38) -> str:
    """Break a long name into two lines, at a blank near its middle."""
    blanks = [index for index, letter in enumerate(name) if letter == " "]
    if len(name) <= width or not blanks:
        return name
    middle = min(blanks, key=lambda index: abs(index - len(name) / 2))
    return f"{name[:middle]}\n{name[middle + 1 :]}"


def shortened(name: str, width: int = 24) -> str:
    """Leave out the middle of a name that would not fit."""
    return name if len(name) <= width else f"{name[: width - 9]}...{name[-6:]}"


def plain(text: str) -> str:
    """Say a text as it is: a dollar of a row's name begins no formula."""
    return text.replace("$", r"\$")


def head(axes: Axes, text: str) -> None:
    """Say above a figure what it is of."""
    axes.set_title(plain(text), fontsize=10, loc="left")


def beside(axes: Axes, y: float, text: str, colour: str = DARK) -> None:
    """Say something at the right of a line."""
    axes.annotate(
        text,
        (1.01, y),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=8,
        color=colour,
        parse_math=False,
    )


def size_text(num_seeds: Iterable[int], num_prompts: Iterable[int]) -> str:
    """Say how much stands behind the numbers: "n = 3 to 5 seeds x 1,000 prompts"."""
    seeds, prompts = sorted(set(num_seeds)), sorted(set(num_prompts))
    if not seeds or not prompts:
        return "n unknown"
    one = "seed" if seeds == [1] else "seeds"
    return f"n = {_span(seeds)} {one} x {_span(prompts)} prompts"


def _span(values: Sequence[int]) -> str:
    low, high = int(values[0]), int(values[-1])
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move places apart, so that texts beside them do not overlap; their order stays."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = [float(place) for place in places]
    for _ in range(200):
        clash = False
        for lower, upper in pairwise(order):
            lack = gap - (moved[upper] - moved[lower])
            if lack > 1e-9 * max(gap, 1e-9) + 1e-12:
                moved[lower] -= lack / 2
                moved[upper] += lack / 2
                clash = True
        if not clash:
            break
    return moved


def handle(style: LossStyle, label: str, *, filled: bool = True, line: bool = True) -> Line2D:
    """An entry of a legend."""
    return Line2D(
        [],
        [],
        color=style.colour,
        marker=style.marker,
        linestyle=style.line if line else "",
        markerfacecolor=style.colour if filled else "white",
        label=plain(label),
    )


def legend_below(figure: Figure, handles: Sequence[Any], columns: int, fontsize: int = 9) -> None:
    """Name what is drawn, under it."""
    figure.legend(
        handles=list(handles), loc="outside lower center", ncols=columns, frameon=False, fontsize=fontsize
    )


def metric_title(key: str) -> str:
    """A metric in words."""
    return TITLES.get(key, key.replace("_", " "))


def bounds(low: object, high: object, value: float) -> list[list[float]] | None:
    """Lengths of an error bar, or None where no interval is known."""
    ends = np.array([low, high], dtype=float)
    return None if np.isnan(ends).any() else [[value - ends[0]], [ends[1] - value]]


def round_ticks(axes: Axes, low: float, high: float) -> None:
    """Name round values on a logarithmic axis from left to right, which may span less than a decade."""
    decades = 10.0 ** np.arange(np.floor(np.log10(low)) - 1, np.ceil(np.log10(high)) + 1)
    for steps in (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        np.arange(1, 10, 0.5),
        np.arange(1, 10, 0.1),
    ):
        values = np.round((decades[:, None] * np.asarray(steps, dtype=float)).ravel(), 12)
        inside = values[(values >= low / 1.05) & (values <= high * 1.05)]
        if len(inside) >= 3:
            break
    axes.xaxis.set_major_locator(FixedLocator(list(inside[:: max(1, -(-len(inside) // 7))])))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def draw_steps(axes: Axes, steps: Sequence[tuple[float, float]], right: float) -> None:
    """Draw a Pareto front, on to the right edge."""
    axes.step(
        [*(x for x, _ in steps), right],
        [*(y for _, y in steps), steps[-1][1]],
        where="post",
        color="#333333",
        linewidth=1,
        linestyle=":",
        zorder=1,
    )
