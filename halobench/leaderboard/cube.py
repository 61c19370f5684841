"""The runs of a board as one table of values by row, seed and prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float

from halobench.leaderboard.clusters import by_group, groups_of
from halobench.leaderboard.names import shown_name
from halobench.results.index import Index, Values
from halobench.results.journal import Retraction, retractions
from halobench.results.record import RunRecord
from halobench.results.store import ScoreFile, Store, SuitePoint
from halobench.sections import Board
from halobench.storage import digest, home

PRIMARY_DECODE = "T=1"


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
        return shown_name(record.recipe["loss"]["name"]) if record.evaluate == "aligned" else record.evaluate


@dataclass(frozen=True)
class Setting:
    """The comparable runs of a suite: same selection, stages, model, budget, precision and prompts.

    Runs are read when they are first asked for.

    Attributes:
        suite: its name.
        setting_id: digest of what is the same.
        board: what the suite declares.
        points: of the suite, with the runs that answer them.
        store: where the runs are.
        retracted: runs of the suite that were recorded and do not count any more.
        kind: of the runs that count: "run", or "tuning".
    """

    suite: str
    setting_id: str
    board: Board
    points: tuple[SuitePoint, ...]
    store: Store
    retracted: tuple[Retraction, ...] = ()
    kind: str = "run"

    @cached_property
    def rows(self) -> tuple[BoardRow, ...]:
        """At least one record each, by name, controls last; none where nothing is recorded but tuning."""
        return _rows(self.store, self.points, self.kind)

    @cached_property
    def _groups(self) -> dict[str, dict[str, str]]:
        return {}

    def release(self) -> None:
        """Forget the runs, which are read again when they are asked for; what was read of them is indexed."""
        if "_index" in self.__dict__:
            self._index.save()
        for name in ("rows", "config_ids", "_files", "_index"):
            self.__dict__.pop(name, None)

    def row(self, name: str) -> BoardRow | None:
        """The row of that name, if there is one."""
        return next((row for row in self.rows if row.name == name), None)

    def mismatches(self) -> list[str]:
        """What keeps rows from being compared: other feedback at a seed, or another way of scoring."""
        lines = []
        for seed in sorted({seed for row in self.rows for seed in row.records}):
            at_seed = [(row.name, row.records[seed].data) for row in self.rows if seed in row.records]
            seen = {data.sha256: name for name, data in at_seed if data is not None}
            if len(seen) > 1:
                lines.append(f"seed {seed}: {' and '.join(sorted(seen.values()))} saw different feedback")
        scorer, _ = self.board.metric.split("/")
        scored = {ids[scorer]: name for name, ids in self.config_ids.items() if scorer in ids}
        if len(scored) > 1:
            lines.append(
                f"{scorer} scored {' and '.join(sorted(scored.values()))} in different configurations"
            )
        return lines

    @cached_property
    def is_sampled(self) -> bool:
        """Whether the primary metric is about sampled texts."""
        scorer, metric = self.board.metric.split("/")
        return any(
            self._values(row, record.run_id, scorer, PRIMARY_DECODE, metric) is not None
            for row in self.rows
            for record in row.records.values()
        )

    @cached_property
    def config_ids(self) -> dict[str, dict[str, str]]:
        """For each row and scorer the configuration that most of its runs were scored with.

        Other rows have no say: a run that is added changes no number of a row that it is not in.
        """
        found: dict[str, dict[str, str]] = {}
        for row in self.rows:
            counts: dict[str, Counter[str]] = {}
            for record in row.records.values():
                for file in self._score_files(record.run_id):
                    counts.setdefault(file.scorer, Counter())[file.config_id] += 1
            found[row.name] = {
                scorer: min(seen, key=lambda config: (-seen[config], config))
                for scorer, seen in sorted(counts.items())
            }
        return found

    def files(self, row: BoardRow, run_id: str) -> list[ScoreFile]:
        """Score files of a run in the configurations of its row."""
        chosen = self.config_ids[row.name]
        return [file for file in self._score_files(run_id) if chosen[file.scorer] == file.config_id]

    @cached_property
    def _files(self) -> dict[str, list[ScoreFile]]:
        return {}

    def _score_files(self, run_id: str) -> list[ScoreFile]:
        if run_id not in self._files:
            self._files[run_id] = self.store.score_files(run_id)
        return self._files[run_id]

    @cached_property
    def _index(self) -> Index:
        name = digest([str(self.store.root.resolve()), self.suite, self.setting_id])[:24]
        return Index(home() / "index" / f"{name}.npz", self.store.root)

    def _values(self, row: BoardRow, run_id: str, scorer: str, decode: str, metric: str) -> Values | None:
        for file in self.files(row, run_id):
            if file.scorer == scorer:
                return self._index.means(file.rows).get((decode, metric))
        return None

    def prompts(self, row: BoardRow, seed: int, scorer: str, decode: str, metric: str) -> pd.Series | None:
        """Values of a run by prompt in the order of names, samples averaged; None where it was not scored."""
        values = self._values(row, row.records[seed].run_id, scorer, decode, metric)
        return None if values is None else pd.Series(values.means, index=list(values.prompt_ids))

    def table(
        self, row: BoardRow, scorer: str, decode: str, metric: str, seeds: Iterable[int] | None = None
    ) -> Float[np.ndarray, "seeds prompts"] | None:
        """Values of a row by seed and prompt, prompts by name; None unless every seed has them all.

        Prompts of one group are one column; see `clusters`.
        """
        values = self.single_prompts(row, scorer, decode, metric, seeds)
        if values is None or not self._grouped(row, scorer):
            return values
        return by_group(values, self.groups(row, scorer, decode, metric))

    def single_prompts(
        self, row: BoardRow, scorer: str, decode: str, metric: str, seeds: Iterable[int] | None = None
    ) -> Float[np.ndarray, "seeds prompts"] | None:
        """What `table` is made from: every prompt a column."""
        columns = []
        for seed in row.completed if seeds is None else seeds:
            column = self._values(row, row.records[seed].run_id, scorer, decode, metric)
            if column is None:
                return None
            columns.append(column)
        if not columns or not all(column.prompt_ids == columns[0].prompt_ids for column in columns):
            return None
        return np.stack([column.means.astype(float) for column in columns])

    def prompt_ids(self, row: BoardRow, scorer: str, decode: str, metric: str) -> list[str]:
        """Names of the prompts of `single_prompts`."""
        first = next((row.records[seed].run_id for seed in row.completed), None)
        column = None if first is None else self._values(row, first, scorer, decode, metric)
        return [] if column is None else list(column.prompt_ids)

    def groups(self, row: BoardRow, scorer: str, decode: str, metric: str) -> list[str]:
        """Group of each prompt of a row; a prompt that is in no prompt set is its own."""
        known = self._grouped(row, scorer)
        return [known.get(name, name) for name in self.prompt_ids(row, scorer, decode, metric)]

    def _grouped(self, row: BoardRow, scorer: str) -> dict[str, str]:
        """Group of each prompt that a scorer asked; empty where each is its own."""
        if scorer not in self._groups:
            first = (self.files(row, row.records[seed].run_id) for seed in row.completed[:1])
            found = [file for files in first for file in files if file.scorer == scorer]
            if not found:  # another row may know
                return {}
            self._groups[scorer] = groups_of(self.store, found[0])
        return self._groups[scorer]

    def scores(self, row: BoardRow, scorer: str, task: str, metric: str) -> list[float]:
        """A row's aggregates, one per completed seed that has it."""
        return [
            score.value
            for seed in row.completed
            for file in self.files(row, row.records[seed].run_id)
            for score in file.scores
            if (score.scorer, score.task, score.metric) == (scorer, task, metric)
        ]


def noted_settings(store: Store, kind: str = "run") -> list[Setting]:
    """Every setting that a suite of the store asked for, by suite and setting, whether or not it was run.

    Retracted runs are on none, and those on dev prompts only where "tuning" is the kind asked for.
    """
    grouped: dict[tuple[str, str], tuple[Board, dict[SuitePoint, None]]] = {}
    for note in store.suites():
        for point in note.points:
            _, points = grouped.setdefault((shown_name(note.suite), point.setting_id), (note.board, {}))
            points[point] = None
    settings = []
    retracted = retractions(store)
    for (suite, setting_id), (board, points) in sorted(grouped.items()):
        left = tuple(point for point in points if point.run_id not in retracted)
        left_out = sorted({point.run_id for point in points} & retracted.keys())
        gone = tuple(retracted[run_id] for run_id in left_out)
        board = board.model_copy(update={"family": tuple(map(shown_name, board.family))})
        settings.append(Setting(suite, setting_id, board, left, store, gone, kind))
    return settings


def load_settings(store: Store, kind: str = "run") -> list[Setting]:
    """Load every board that the store has runs for, by suite and setting; see `noted_settings`."""
    return [setting for setting in noted_settings(store, kind) if setting.rows]


def _rows(store: Store, points: Sequence[SuitePoint], kind: str) -> tuple[BoardRow, ...]:
    methods: dict[tuple[str, str], list[SuitePoint]] = {}
    for point in sorted(points, key=lambda point: (point.seed, point.run_id)):
        methods.setdefault((shown_name(point.label), point.method_id), []).append(point)
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
            apart = ", ".join(f"{key}={mine[key]}" for key in differing) or "other code"
            name = shown_name(f"{row.label} ({apart})")
        named.append(BoardRow(name, row.label, row.control, row.records, row.missing))
    return tuple(sorted(named, key=lambda row: (row.control, row.name)))


def _facts(row: BoardRow) -> dict[str, object]:
    """What can make two rows of one label differ, as flat keys."""
    recipe = row.any_record.recipe
    flat: dict[str, object] = {key: value for key, value in recipe["loss"].items() if key != "name"}
    flat |= {f"optim.{key}": value for key, value in recipe["optim"].items()}
    flat["budget"] = f"{recipe['budget']['multiple']:g}x"
    flat["base"] = recipe["base_seed"]
    kept = {"label_noise": 0.0, "answers": "all", "fraction": 1.0}
    kept |= {"desirable_fraction": 1.0, "undesirable_fraction": 1.0}
    flat |= {key: recipe["data"].get(key, default) for key, default in kept.items()}
    online = recipe["data"].get("online")
    flat |= {} if online is None else {f"online.{key}": value for key, value in online.items()}
    return flat | {key: recipe["data"][key] for key in ("labels", "demonstrations")}
