"""Which boards have figures and pages of their own: in a large store not all of them."""

from __future__ import annotations

from collections.abc import Sequence

from halobench.leaderboard.text import BuiltBoard

FEATURED = 12


def by_size(boards: Sequence[BuiltBoard]) -> list[BuiltBoard]:
    """The boards with most recorded runs first, ties in the order of suites and settings."""
    return sorted(
        boards,
        # the table of costs has one line per recorded run
        key=lambda board: (-len(board.tables.cost), board.setting.suite, board.setting.setting_id),
    )


def featured(boards: Sequence[BuiltBoard]) -> frozenset[str]:
    """Stems of the largest boards."""
    return frozenset(board.stem for board in by_size(boards)[:FEATURED])
