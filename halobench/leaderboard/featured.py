"""Which boards get everything: figures, and a page for each comparison and for a run of each row."""

from __future__ import annotations

from collections.abc import Sequence

from halobench.leaderboard.text import BuiltBoard

FEATURED = 24


def featured(boards: Sequence[BuiltBoard]) -> set[str]:
    """Return the settings of the boards with the most runs, ties by name of the suite and the setting."""

    def order(board: BuiltBoard) -> tuple[int, str, str]:
        num_runs = sum(len(row.records) for row in board.setting.rows)
        return -num_runs, board.setting.suite, board.setting.setting_id

    return {board.setting.setting_id for board in sorted(boards, key=order)[:FEATURED]}
