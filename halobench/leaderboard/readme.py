"""The table of a board inside a README: between two comments that say who writes what stands there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from halobench.leaderboard.published_text import markdown_lines
from halobench.leaderboard.text import BuiltBoard, display_table

_BLOCK = re.compile(
    r"(<!-- board (?P<stem>[\w.-]+): made by halobench leaderboard -->\n).*?(<!-- end of board -->)",
    re.DOTALL,
)
# what readers of a README want to know; the leaderboard has the rest
_SHOWN = (
    "Rank",
    "Row",
    "Win rate, T=1",
    "Win rate, T*",
    "Beyond SFT as sure",
    "Utility",
    "KL, nats",
    "Seeds",
    "Note",
)


def with_boards(text: str, boards: Sequence[BuiltBoard]) -> str:
    """Fill every block of a text with the table of its board; what has no board stays as it is."""
    by_stem = {board.stem: board for board in boards}

    def fill(block: re.Match[str]) -> str:
        board = by_stem.get(block["stem"])
        return block[0] if board is None else f"{block[1]}{_table(board)}\n{block[3]}"

    return _BLOCK.sub(fill, text)


def _table(board: BuiltBoard) -> str:
    headers, rows = display_table(board)
    kept = [place for place, header in enumerate(headers) if header in _SHOWN]
    return "\n".join(markdown_lines([headers[k] for k in kept], [[row[k] for k in kept] for row in rows]))
