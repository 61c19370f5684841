"""Which boards have figures and pages of their own: in a large store not all of them."""

from __future__ import annotations

from collections.abc import Sequence

from halobench.leaderboard.text import BuiltBoard

FEATURED = 24


def featured(boards: Sequence[BuiltBoard]) -> frozenset[str]:
    """Stems of the boards with most recorded runs, ties in the order of suites and settings."""
    ordered = sorted(
        boards,
        # the table of costs has one line per recorded run
        key=lambda board: (-len(board.tables.cost), board.setting.suite, board.setting.setting_id),
    )
    return frozenset(board.stem for board in ordered[:FEATURED])
