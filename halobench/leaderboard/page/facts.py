"""What several pages say of a board: names of files, levels of rows, comparisons with their words."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from halobench.leaderboard.contrasts import Comparison, decodes, gate, robust
from halobench.leaderboard.cube import BoardRow, Setting
from halobench.leaderboard.letters import letters
from halobench.leaderboard.page.render import slug
from halobench.leaderboard.text import BuiltBoard, rank_text
from halobench.results.record import RunRecord

_SENTENCES = {
    "better": "{a} is better than {b}.",
    "better, within the margin": "{a} is better than {b}, by less than the margin of {margin:g}.",
    "worse": "{a} is worse than {b}.",
    "worse, within the margin": "{a} is worse than {b}, by less than the margin of {margin:g}.",
    "equivalent": "{a} and {b} are equivalent: they differ by less than the margin of {margin:g}.",
    "not inferior": "{a} is not worse than {b} by the margin of {margin:g} or more. That is all.",
    "not superior": "{a} is not better than {b} by the margin of {margin:g} or more. That is all.",
    "inconclusive": "Undecided: {a} may be better or worse than {b} by the margin of {margin:g} or more.",
}


class View(NamedTuple):
    """A board as its pages read it.

    Attributes:
        board: the board.
        records: its rows.
        letters: of its ranked rows, from the primary decode.
    """

    board: BuiltBoard
    records: list[dict[Hashable, Any]]
    letters: dict[str, str]


class Compared(NamedTuple):
    """Two rows that are compared, and the file that tells of it.

    Attributes:
        first: name of row A.
        second: name of row B.
        comparisons: of A - B, the primary decode first.
        path: of its page.
    """

    first: str
    second: str
    comparisons: list[Comparison]
    path: str


def setting_path(board: BuiltBoard) -> str:
    """Page of a setting."""
    return f"setting/{slug(board.stem)}.html"


def run_path(run_id: str) -> str:
    """Page of a run."""
    return f"run/{slug(run_id)}.html"


def contrast_path(board: BuiltBoard, first: str, second: str) -> str:
    """Page of a comparison."""
    return f"contrast/{slug(board.stem)}--{slug(first)}-vs-{slug(second)}.html"


def board_id(board: BuiltBoard) -> str:
    """Anchor of a setting; no suite can be called as a part of the page is."""
    return f"setting--{slug(board.stem)}"


def row_id(board: BuiltBoard, name: str) -> str:
    """Anchor of a row."""
    return f"row--{slug(board.stem)}--{slug(name)}"


def shown_run(row: BoardRow) -> RunRecord | None:
    """The run that stands for a row: its lowest completed seed; None if every seed diverged."""
    return row.records[min(row.completed)] if row.completed else None


def compared(board: BuiltBoard) -> list[Compared]:
    """Every pair of rows that the board compares, in the order of its comparisons."""
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in board.tables.comparisons:
        pairs.setdefault((comparison.first, comparison.second), []).append(comparison)
    return [
        Compared(first, second, found, contrast_path(board, first, second))
        for (first, second), found in pairs.items()
    ]


def view(board: BuiltBoard) -> View:
    """Read a board once for all its pages; of the ranked rows the best estimate has the letter "a"."""
    records = board.tables.rows.to_dict("records")
    primary = decodes(board.setting)[0]
    ranked = [str(record["row"]) for record in records if rank_text(record) != "-"]
    family = [c for c in board.tables.comparisons if c.family == "losses" and c.decode == primary]
    tied = letters(ranked, [(c.first, c.second) for c in family if c.adjusted.separated])
    return View(board, records, tied)


def separability(board: BuiltBoard) -> str:
    """How many pairs of the ranked losses stay undecided, and which control failed, in a line."""
    primary = decodes(board.setting)[0]
    family = [c for c in board.tables.comparisons if c.family == "losses" and c.decode == primary]
    tied = sum(not c.adjusted.separated for c in family)
    parts = [f"{tied} of {len(family)} pairs not separable"] if family else ["nothing is ranked"]
    for c, must, passes in gate(board.tables.comparisons):
        parts += [] if passes else [f"control FAILED: {c.first} against {c.second} must be {must}"]
    return "; ".join(parts)


def sentence(comparison: Comparison, margin: float) -> str:
    """A verdict in words."""
    template = _SENTENCES[comparison.verdict(margin)]
    return template.format(a=comparison.first, b=comparison.second, margin=margin)


def robust_text(comparisons: Sequence[Comparison], comparison: Comparison) -> str:
    """Whether the sign is the same at both decodes: yes, no, or nothing where there is one."""
    return {True: "yes", False: "no", None: ""}[robust(list(comparisons), comparison)]


def span(low: float, high: float) -> str:
    """An interval of a difference."""
    return "n/a" if low != low else f"{low:+.3f} to {high:+.3f}"


def data_facts(setting: Setting) -> list[dict[str, Any]]:
    """What the rows of each seed were trained on; seeds that share it share a line."""
    lines: dict[str, dict[str, Any]] = {}
    for row in setting.rows:
        for seed, record in row.records.items():
            if record.data is not None:
                line = lines.setdefault(record.data.sha256, {"seeds": set(), "data": record.data})
                line["seeds"].add(seed)
    ordered = sorted(lines.items(), key=lambda item: (min(item[1]["seeds"]), item[0]))
    return [{"seeds": sorted(line["seeds"]), "data": line["data"]} for _, line in ordered]
