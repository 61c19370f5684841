"""What is said of a suite as a whole: its ablations, and its losses over all settings together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from halobench.leaderboard.ablation_tables import level_table, trend_table
from halobench.leaderboard.ablations import Ablation, find_ablations
from halobench.leaderboard.aggregate import Aggregate, aggregate
from halobench.leaderboard.contrasts import SECOND_DECODE
from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.ablation import ablation_plots, side_title, until
from halobench.leaderboard.figures.aggregate import aggregate_plots
from halobench.leaderboard.figures.hyper import heatmap_plots
from halobench.leaderboard.figures.style import Plot, drawing


class Along(NamedTuple):
    """An ablation with its tables.

    Attributes:
        ablation: which axis, metric and decode.
        levels: one row per level of each series.
        trends: what they say.
    """

    ablation: Ablation
    levels: pd.DataFrame
    trends: pd.DataFrame


class Study(NamedTuple):
    """A suite as a whole.

    Attributes:
        settings: its boards.
        ablations: what it varies.
        aggregate: its losses over all settings; None where it has one.
    """

    settings: tuple[Setting, ...]
    ablations: tuple[Along, ...]
    aggregate: Aggregate | None

    @property
    def trends(self) -> pd.DataFrame:
        """All trends below each other."""
        tables = [along.trends for along in self.ablations if not along.trends.empty]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def make_study(settings: Sequence[Setting]) -> Study:
    """Look at all boards of one suite together."""
    ablations = [Along(found, level_table(found), trend_table(found)) for found in find_ablations(settings)]
    return Study(tuple(settings), tuple(ablations), aggregate(settings))


def study_plots(study: Study) -> list[Plot]:
    """Draw every figure of a suite that has something to show."""
    with drawing():
        plots = [plot for along in study.ablations for plot in ablation_plots(*along)]
        plots += heatmap_plots(study.settings)
        plots += aggregate_plots(study.aggregate) if study.aggregate is not None else []
    return plots


def study_notes(study: Study) -> list[str]:
    """In plain sentences, at the primary decode: up to where each method keeps what all data give."""
    notes = []
    for along in study.ablations:
        notes += [f"{note}." for note in along.ablation.notes]
        held = along.trends[along.trends["kind"] == "breakdown"]
        if along.ablation.decode == SECOND_DECODE or held.empty:
            continue
        for side, rows in held.groupby("axis", sort=False):
            said = [f"{row['a']} {until(str(side), row['estimate'])}" for _, row in rows.iterrows()]
            notes.append(
                f"{side_title(str(side))}: not inferior to {along.ablation.axis.whole} by "
                f"{along.ablation.margin:g}: {'; '.join(said)}."
            )
    return notes
