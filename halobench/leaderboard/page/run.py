"""The page of a run: its recipe, where it comes from, what it cost, how it learnt, and what it answers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import yaml
from markupsafe import Markup

from halobench.leaderboard.names import shown_name
from halobench.leaderboard.page.facts import run_path, setting_path, shown_run
from halobench.leaderboard.page.render import render_alone
from halobench.leaderboard.page.samples import Pair, Showcase
from halobench.leaderboard.page.svg import curve
from halobench.leaderboard.text import BuiltBoard
from halobench.results.journal import retractions
from halobench.results.record import RunRecord
from halobench.results.store import Store

_CURVES = "curves.parquet"
# What says how and where a run is executed or shown, and not what is run.
_NOT_ITS_RECIPE = ("content", "execution", "board", "tuning", "suite", "label", "control")


def run_context(store: Store, record: RunRecord, showcase: Showcase, reference: str | None) -> dict[str, Any]:
    """What the template of a run needs.

    Args:
        store: where the run is.
        record: of the run.
        showcase: of the store.
        reference: run of the model that it started from, at the same seed; None if it is not recorded.
    """
    scores = [score for file in store.score_files(record.run_id) for score in file.scores]
    retracted = retractions(store).get(record.run_id)
    beside, pairs = _samples(showcase, record, reference)
    return {
        "record": record,
        "label": shown_name(record.recipe["label"] or record.evaluate),
        "suite": shown_name(record.recipe["suite"]),
        "retracted": None if retracted is None else retracted.reason,
        "recipe": _yaml({k: v for k, v in record.recipe.items() if k not in _NOT_ITS_RECIPE}),
        "data": None if record.data is None else record.data.model_dump(mode="json"),
        "budget": None if record.budget is None else record.budget.model_dump(mode="json"),
        "rounds": [facts.model_dump(mode="json") for facts in record.rounds],
        "provenance": record.provenance,
        "scores": scores,
        "curves": _curves(store, record.run_id),
        "beside": beside,
        "pairs": pairs,
        "reference": reference,
        "board": None,
    }


def board_run_context(
    board: BuiltBoard, row_name: str, record: RunRecord, showcase: Showcase
) -> dict[str, Any]:
    """What the template needs of a run that stands for a row of a board."""
    reference = next(
        (
            run.run_id
            for row in board.setting.rows
            for seed, run in row.records.items()
            if run.evaluate == "reference" and seed == record.seed and run.run_id != record.run_id
        ),
        None,
    )
    context = run_context(board.setting.store, record, showcase, reference)
    shown = {run.run_id for row in board.setting.rows if (run := shown_run(row)) is not None}
    row = board.setting.row(row_name)
    others = [] if row is None else [r.run_id for r in row.records.values() if r.run_id != record.run_id]
    return context | {
        "board": {
            "suite": board.setting.suite,
            "row": row_name,
            "page": setting_path(board),
            "others": others,
            "reference_page": run_path(reference) if reference in shown else None,
        }
    }


def render_run(store: Store, run_id: str) -> str:
    """Render the page of any run by itself.

    Raises:
        ResultsError: there is no such run, or it is not of this schema.
    """
    record = store.record(run_id)
    reference = next(
        (
            point.run_id
            for note in store.suites()
            for point in note.points
            if (point.setting_id, point.seed) == (record.setting_id, record.seed)
            and point.run_id != run_id
            and store.has_run(point.run_id)
            and store.record(point.run_id).evaluate == "reference"
        ),
        None,
    )
    context = run_context(store, record, Showcase(store), reference)
    return render_alone("run", store.data_version(), **context)


def _samples(showcase: Showcase, record: RunRecord, reference: str | None) -> tuple[str, list[Pair]]:
    """Whose answers stand beside the run's own, and the pairs."""
    decode = next(iter(showcase.decodes(record.run_id)), "")
    pairs = [] if reference is None else showcase.pairs(record.run_id, reference, decode)
    if pairs:
        return f"the reference, {decode}", pairs
    return f"a preferred answer, {decode}", showcase.beside_chosen(record.run_id, decode)


def _curves(store: Store, run_id: str) -> list[tuple[str, Markup]]:
    file = store.run_path(run_id) / _CURVES
    if not file.is_file():
        return []
    table = pd.read_parquet(file).sort_values(["metric", "step"], kind="stable")
    order = sorted(set(table["metric"]), key=lambda name: (name != "loss", name))
    found = []
    for name in order:
        mine = table[table["metric"] == name]
        drawn = curve(name, mine["step"].to_numpy(float), mine["value"].to_numpy(float), "step")
        found.append((name, drawn))
    return [(name, drawn) for name, drawn in found if drawn]


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=True, allow_unicode=True, width=100)
