"""What others published, as text: the few columns that people read, for Markdown and the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from halobench.leaderboard.counts import NOT_RESOLVABLE
from halobench.leaderboard.figures.style import Plot
from halobench.leaderboard.names import one_line
from halobench.leaderboard.published import CONDITIONS, MARK, PublishedTables

TITLE = "Published elsewhere"
CLAIMS_NOTE = (
    "The paper's claims, tested again by Fisher's exact test, Holm within a claim, at 5%; better or worse is "
    "what stands first"
)
SCORES_NOTE = (
    "AlpacaEval 2 and Arena-Hard after UltraFeedback, percent, as the README of princeton-nlp/SimPO prints "
    "them. Counts and errors were not published, so there is no interval and no verdict. Every loss was "
    "tuned there. * one row is printed for both CPO and KTO: a copy error in one of them."
)


class BuiltPublished(NamedTuple):
    """Others' numbers with everything that is shown of them.

    Attributes:
        tables: of the numbers.
        plots: their figures.
    """

    tables: PublishedTables
    plots: list[Plot]


def published_markdown(published: BuiltPublished) -> list[str]:
    """Lines of the section: win rates by scale, the other rows, the claims, the figures."""
    tables = published.tables
    counts = tables.counts
    parts = [f"## {TITLE}", "", *(f"- {line}" for line in CONDITIONS), ""]
    if len(counts):
        rest = counts[counts["setting"] != "scale"]
        parts += [f"Win rates of the KTO paper (arXiv:2402.01306) with 95% intervals; {MARK}:", ""]
        parts += [*markdown_lines(*scale_table(counts)), ""]
        parts += [f"Its imbalance and OpenAssistant runs; {MARK}:", ""]
        parts += [*markdown_lines(*count_table(rest)), ""]
        parts += [f"{CLAIMS_NOTE}:", "", *markdown_lines(*claim_summary(tables.claims)), ""]
    parts += [f"![{plot.title}](published/{plot.name}.svg)\n" for plot in published.plots]
    if len(tables.scores):
        parts += [SCORES_NOTE, "", *markdown_lines(*score_table(tables.scores)), ""]
    return parts


def markdown_lines(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    head, *body = ("| " + " | ".join(map(markdown_text, row)) + " |" for row in (headers, *rows))
    return [head, "|" + "---|" * len(headers), *body]


def markdown_text(text: str) -> str:
    """Write a text so that Markdown shows it in one line as it is: no table, HTML, code or link in it."""
    line = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[\\`|]|(?<=\])(?=\()", r"\\\g<0>", line)


def scale_table(counts: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Recipes by models: win rate with its interval."""
    scale = counts[counts["setting"] == "scale"]
    models = list(dict.fromkeys(scale["family"] + " " + scale["size"]))
    recipes = list(dict.fromkeys(scale["row"]))
    cells = {(row["row"], f"{row['family']} {row['size']}"): _interval(row) for _, row in scale.iterrows()}
    return ["Row", *models], [[name, *(cells.get((name, model), "") for model in models)] for name in recipes]


def count_table(counts: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Every count as a line."""
    headers = ["Row", "Model", "Data", "Wins", "Losses", "Prompts", "Win rate", "Level", "Tokens", "Shown in"]
    return headers, [
        [
            str(row["row"]),
            f"{row['family']} {row['size']}",
            _data(row),
            str(row["wins"]),
            str(row["losses"]),
            str(row["total"]),
            _interval(row),
            str(row["level"]),
            str(row["length_mean"]),
            str(row["shown_in"]),
        ]
        for _, row in counts.iterrows()
    ]


def _interval(row: pd.Series) -> str:
    return f"{row['winrate']:.3f} [{row['winrate_low']:.3f}, {row['winrate_high']:.3f}]"


def _data(row: pd.Series) -> str:
    """What a checkpoint was trained on."""
    if row["loss"] == "base":
        return "none"
    if row["setting"] == "oasst":
        return "OASST" + (", one answer per prompt" if row["answers"] == "one_per_prompt" else "")
    parts = ["SHP+HH+OASST"]
    for side, weight in (("desirable", "lambda_d"), ("undesirable", "lambda_u")):
        if row[f"{side}_fraction"] < 1 or row[weight] != 1:
            parts.append(f"{row[f'{side}_fraction']:.0%} of {side}, {weight} {row[weight]:g}")
    return "; ".join(parts)


def claim_summary(claims: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """One line per claim: where what is named first is established as better, as worse, and where neither."""
    headers = ["Claim of the paper", "Compared", "Better", "Worse", NOT_RESOLVABLE.capitalize()]
    verdicts = ("better", "worse", NOT_RESOLVABLE)
    return headers, [
        [
            str(claim),
            str(rows["compared"].iloc[0]),
            *(_places(rows[rows["verdict"] == verdict], rows) for verdict in verdicts),
        ]
        for claim, rows in claims.groupby("claim", sort=False)
    ]


def _places(found: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Where comparisons came out so; with how many of them where there are several at a place."""
    totals = rows["where"].value_counts()
    counts = found["where"].value_counts(sort=False)
    places = [
        place if totals[place] == 1 else f"{place} ({counts[place]} of {totals[place]})"
        for place in dict.fromkeys(found["where"])
    ]
    return ", ".join(places) or "-"


def claim_lines(claims: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Every comparison of every claim as a line."""
    headers = [
        "Claim of the paper",
        "Where",
        "A",
        "B",
        "Wins A",
        "Wins B",
        "A - B",
        "p",
        "p (Holm)",
        "Verdict",
    ]
    return headers, [
        [
            str(row["claim"]),
            str(row["where"]),
            str(row["a"]),
            str(row["b"]),
            f"{row['a_wins']} of {row['a_total']}",
            f"{row['b_wins']} of {row['b_total']}",
            f"{row['difference']:+.3f}",
            f"{row['p']:.2g}",
            f"{row['p_holm']:.2g}",
            str(row["verdict"]),
        ]
        for _, row in claims.iterrows()
    ]


def score_table(scores: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Losses by models: length-controlled win rate, win rate, Arena-Hard."""
    models = list(dict.fromkeys(scores["model"]))
    cells = {
        (row["name"], row["model"]): f"{row['lc_winrate_percent']:.1f} / {row['winrate_percent']:.1f} / "
        f"{row['arena_hard_percent']:.1f}{' *' if row['note'] else ''}"
        for _, row in scores.iterrows()
    }
    losses = list(dict.fromkeys(scores["name"]))
    headers = ["LC win rate / win rate / Arena-Hard", *models]
    return headers, [[name, *(cells.get((name, model), "") for model in models)] for name in losses]
