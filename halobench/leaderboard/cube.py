"""The runs of a board as one table of values by row, seed and prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float

from halobench.results.journal import Retraction, retractions
from halobench.results.record import RunRecord
from halobench.results.store import ScoreFile, Store, SuitePoint
from halobench.sections import Board


@dataclass(frozen=True)
class BoardRow:
    """One row of a board: the seeds of one method.

    Attributes:
        name: unique on the board: the label, with what differs where two methods share one.
        label: of the suite.
        control: whether it is a control row.
        records: seed to record.
        missing: seeds of the suite that are not recorded yet.
    """

    name: str
    label: str
    control: bool
    records: dict[int, RunRecord]
    missing: tuple[int, ...]

    @property
    def completed(self) -> list[int]:
        """Seeds that did not diverge."""
        return [seed for seed, record in self.records.items() if record.status == "completed"]

    @property
    def any_record(self) -> RunRecord:
        """A record, for what all seeds share."""
        return next(iter(self.records.values()))

    @property
    def loss(self) -> str:
        """Name of the loss, or of the stage that was evaluated."""
        record = self.any_record
        return str(record.recipe["loss"]["name"]) if record.evaluate == "aligned" else record.evaluate


@dataclass(frozen=True)
class Setting:
    """The comparable runs of a suite: same selection, stages, model, budget, precision and prompts.

    Attributes:
        suite: its name.
        setting_id: digest of what is the same.
        board: what the suite declares.
        rows: at least one record each, in the order of the suite.
        store: where the runs are.
        retracted: runs of the suite that were recorded and do not count any more.
    """

    suite: str
    setting_id: str
    board: Board
    rows: tuple[BoardRow, ...]
    store: Store
    retracted: tuple[Retraction, ...] = ()
    _columns: dict[str, dict[tuple[str, str, str], pd.Series]] = field(default_factory=dict)

    def row(self, name: str) -> BoardRow | None:
        """The row of that name, if there is one."""
        return next((row for row in self.rows if row.name == name), None)

    def mismatches(self) -> list[str]:
        """Seeds at which two rows were trained on different feedback; there should be none."""
        lines = []
        for seed in sorted({seed for row in self.rows for seed in row.records}):
            seen = {r.records[seed].data.sha256: r.name for r in self.rows if _has_data(r, seed)}  # type: ignore[union-attr]
            if len(seen) > 1:
                lines.append(f"seed {seed}: {' and '.join(sorted(seen.values()))} saw different feedback")
        return lines

    @cached_property
    def config_ids(self) -> dict[str, str]:
        """For each scorer the configuration that most runs were scored with."""
        counts: dict[str, Counter[str]] = {}
        for row in self.rows:
            for record in row.records.values():
                for file in self.store.score_files(record.run_id):
                    counts.setdefault(file.scorer, Counter())[file.config_id] += 1
        return {
            scorer: min(seen, key=lambda config: (-seen[config], config))
            for scorer, seen in sorted(counts.items())
        }

    def files(self, run_id: str) -> Iterable[ScoreFile]:
        """Score files of a run that belong to the board."""
        return (f for f in self.store.score_files(run_id) if self.config_ids.get(f.scorer) == f.config_id)

    def prompts(self, run_id: str, scorer: str, decode: str, metric: str) -> pd.Series | None:
        """Values of a run by prompt in the order of names, samples averaged; None where it was not scored."""
        if run_id not in self._columns:
            self._columns[run_id] = {}
            for file in self.files(run_id):
                rows = pd.read_parquet(file.rows)
                means = rows.groupby(["decode", "metric", "prompt_id"])["value"].mean()
                for decode_, metric_ in dict.fromkeys(key[:2] for key in means.index):
                    self._columns[run_id][file.scorer, decode_, metric_] = means.loc[decode_, metric_]
        return self._columns[run_id].get((scorer, decode, metric))

    def table(
        self, row: BoardRow, scorer: str, decode: str, metric: str, seeds: Iterable[int] | None = None
    ) -> Float[np.ndarray, "seeds prompts"] | None:
        """Values of a row by seed and prompt, prompts by name; None unless every seed has them all."""
        columns = []
        for seed in row.completed if seeds is None else seeds:
            column = self.prompts(row.records[seed].run_id, scorer, decode, metric)
            if column is None:
                return None
            columns.append(column)
        if not columns or not all(column.index.equals(columns[0].index) for column in columns):
            return None
        return np.stack([column.to_numpy(float) for column in columns])

    def prompt_ids(self, row: BoardRow, scorer: str, decode: str, metric: str) -> list[str]:
        """Names of the prompts of `table`."""
        column = self.prompts(row.any_record.run_id, scorer, decode, metric)
        return [] if column is None else list(column.index)

    def scores(self, row: BoardRow, scorer: str, task: str, metric: str) -> list[float]:
        """A row's aggregates, one per completed seed that has it."""
        return [
            score.value
            for seed in row.completed
            for file in self.files(row.records[seed].run_id)
            for score in file.scores
            if (score.scorer, score.task, score.metric) == (scorer, task, metric)
        ]


def _has_data(row: BoardRow, seed: int) -> bool:
    return seed in row.records and row.records[seed].data is not None


def load_settings(store: Store, kind: str = "run") -> list[Setting]:
    """Load every board that the store has runs for, by suite and setting.

    Retracted runs are on none, and those on dev prompts only where "tuning" is the kind asked for.
    """
    grouped: dict[tuple[str, str], tuple[Board, dict[SuitePoint, None]]] = {}
    for note in store.suites():
        for point in note.points:
            _, points = grouped.setdefault((note.suite, point.setting_id), (note.board, {}))
            points[point] = None
    settings = []
    retracted = retractions(store)
    for (suite, setting_id), (board, points) in sorted(grouped.items()):
        rows = _rows(store, [point for point in points if point.run_id not in retracted], kind)
        left_out = sorted({point.run_id for point in points} & retracted.keys())
        if rows:
            gone = tuple(retracted[run_id] for run_id in left_out)
            settings.append(Setting(suite, setting_id, board, rows, store, gone))
    return settings


def _rows(store: Store, points: list[SuitePoint], kind: str) -> tuple[BoardRow, ...]:
    methods: dict[tuple[str, str], list[SuitePoint]] = {}
    for point in sorted(points, key=lambda point: (point.seed, point.run_id)):
        methods.setdefault((point.label, point.method_id), []).append(point)
    found = []
    for (label, _), members in methods.items():
        for same_base in _apart_by_base(members, store):
            records = {p.seed: store.record(p.run_id) for p in same_base if store.has_run(p.run_id)}
            records = {seed: record for seed, record in records.items() if record.kind == kind}
            if records:
                missing = tuple(point.seed for point in same_base if point.seed not in records)
                found.append(BoardRow(label, label, members[0].control, records, missing))
    return _named_apart(found)


def _apart_by_base(members: list[SuitePoint], store: Store) -> list[list[SuitePoint]]:
    """The points of a method; where a seed was run on several base models, one list per base model."""
    if len({point.seed for point in members}) == len(members):
        return [members]
    bases: dict[int | None, list[SuitePoint]] = {}
    for point in members:
        known = store.has_run(point.run_id)
        base = store.record(point.run_id).recipe["base_seed"] if known else None
        bases.setdefault(base, []).append(point)
    return list(bases.values())


def _named_apart(rows: list[BoardRow]) -> tuple[BoardRow, ...]:
    """Name rows that share a label by the parameters in which they differ."""
    named = []
    for row in rows:
        namesakes = [other for other in rows if other.label == row.label]
        name = row.label
        if len(namesakes) > 1:
            facts = [_facts(other) for other in namesakes]
            mine = _facts(row)
            differing = [key for key in mine if len({str(fact.get(key)) for fact in facts}) > 1]
            name = f"{row.label} ({', '.join(f'{key}={mine[key]}' for key in differing) or 'other code'})"
        named.append(BoardRow(name, row.label, row.control, row.records, row.missing))
    return tuple(sorted(named, key=lambda row: (row.control, row.name)))


def _facts(row: BoardRow) -> dict[str, object]:
    """What can make two rows of one label differ, as flat keys."""
    recipe = row.any_record.recipe
    flat: dict[str, object] = {key: value for key, value in recipe["loss"].items() if key != "name"}
    flat |= {f"optim.{key}": value for key, value in recipe["optim"].items()}
    flat["budget"] = f"{recipe['budget']['multiple']:g}x"
    flat["base"] = recipe["base_seed"]
    kept = {"label_noise": 0.0, "answers": "all", "desirable_fraction": 1.0, "undesirable_fraction": 1.0}
    flat |= {key: recipe["data"].get(key, default) for key, default in kept.items()}
    online = recipe["data"].get("online")
    flat |= {} if online is None else {f"online.{key}": value for key, value in online.items()}
    return flat | {key: recipe["data"][key] for key in ("labels", "demonstrations")}
