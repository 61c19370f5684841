"""What stands beside the boards: searches, numbers of other programs, and what others published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from halobench.leaderboard.figures.style import Plot
from halobench.leaderboard.published_text import BuiltPublished
from halobench.leaderboard.tuning import Tuning


class BuiltTuning(NamedTuple):
    """A search with everything that is shown of it.

    Attributes:
        tuning: what it found.
        plots: its figures.
        stem: beginning of the names of its files.
    """

    tuning: Tuning
    plots: list[Plot]
    stem: str


@dataclass(frozen=True)
class Beside:
    """All of it.

    Attributes:
        published: what others published, if it is shown.
        imported: numbers of other programs, one per row.
        tunings: searches.
        tables: names of the CSV files that not every leaderboard has.
    """

    published: BuiltPublished | None = None
    imported: pd.DataFrame = field(default_factory=pd.DataFrame)
    tunings: Sequence[BuiltTuning] = ()
    tables: Sequence[str] = ()
