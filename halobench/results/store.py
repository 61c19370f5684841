"""The store: a folder of facts that only grows, mergeable by copying folders together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from halobench.errors import ResultsError
from halobench.feedback import PromptSet
from halobench.recipe import Recipe
from halobench.results.record import RunRecord, ScoreRecord, parse_record, parse_score_facts
from halobench.sections import Board
from halobench.storage import (
    atomic_file,
    atomic_folder,
    canonical_json,
    digest,
    file_digest,
    parse_json,
    write_text,
)

RECORD = "run.json"
TIMING = "timing.json"
RETRACTIONS = "retractions.jsonl"
# what is a part of paths and addresses
Id = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]


class SuitePoint(BaseModel):
    """One point of a suite's matrix and the run that answers it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    control: bool
    run_id: Id
    setting_id: Id
    method_id: Id
    seed: int


class SuiteFile(BaseModel):
    """What one invocation asked of a suite."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    board: Board
    points: tuple[SuitePoint, ...]


class ScoreFile(NamedTuple):
    """What one scorer, in one configuration, found of a run.

    Attributes:
        scorer: its registered name.
        config_id: 8 hexadecimal digits of its configuration.
        scores: aggregates.
        rows: parquet file of the per-prompt values.
    """

    scorer: str
    config_id: str
    scores: tuple[ScoreRecord, ...]
    rows: Path


class _AlreadyThere(Exception):
    """Leaves a folder unwritten."""


def unreadable(file: Path, error: Exception) -> ResultsError:
    """Say in one line what is wrong with a file."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        return ResultsError(f"{file}: {key}: {problem['msg']}; was it written by another version?")
    return ResultsError(f"{file}: {type(error).__name__}: {error}; is the file whole?")


class Store:
    """Reads and adds facts; never changes one.

    Args:
        root: the results folder; made when the first fact is added.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def run_path(self, run_id: str) -> Path:
        """Folder of a run."""
        return self.root / "runs" / run_id

    def has_run(self, run_id: str) -> bool:
        """Whether the run is recorded; its record is written last."""
        return (self.run_path(run_id) / RECORD).is_file()

    def run_ids(self) -> list[str]:
        """All recorded runs, by name."""
        return sorted(path.parent.name for path in self.root.glob(f"runs/[!.]*/{RECORD}"))

    def record(self, run_id: str) -> RunRecord:
        """Read a record.

        Raises:
            ResultsError: there is none, or it is not of this schema.
        """
        file = self.run_path(run_id) / RECORD
        if not file.is_file():
            raise ResultsError(f"run {run_id!r}: is not in {self.root}; `halobench list runs` shows what is")
        try:
            return parse_record(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise unreadable(file, error) from None

    def records(self) -> Iterator[RunRecord]:
        """Read all records, by name."""
        return (self.record(run_id) for run_id in self.run_ids())

    def timing(self, run_id: str) -> dict[str, Any]:
        """Measured seconds of a run, by stage; empty if unknown."""
        file = self.run_path(run_id) / TIMING
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    def score_files(self, run_id: str) -> list[ScoreFile]:
        """What was scored of a run, by name; the JSON file is written last, so it tells what is whole."""
        found = []
        for file in sorted((self.run_path(run_id) / "scores").glob("[!.]*.json")):
            try:
                scorer, config_id = file.stem.rsplit("-", 1)
                scores = parse_score_facts(file.read_text(encoding="utf-8")).scores
            except (OSError, ValueError) as error:
                raise unreadable(file, error) from None
            found.append(ScoreFile(scorer, config_id, scores, file.with_suffix(".parquet")))
        return found

    def has_scores(self, run_id: str, scorer: str, config_id: str) -> bool:
        """Whether a scorer's numbers are there in this configuration."""
        return (self.run_path(run_id) / "scores" / f"{scorer}-{config_id}.json").is_file()

    def add_run(self, run_id: str, fill: Callable[[Path], None]) -> None:
        """Add a run, whole or not at all; the same run again is a no-op.

        Args:
            run_id: its name.
            fill: writes its files, the record included, into an empty folder.

        Raises:
            ResultsError: the run is there with other digests: something in it does not depend on its recipe
                alone.
        """
        with suppress(_AlreadyThere), atomic_folder(self.run_path(run_id)) as folder:
            fill(folder)
            if self.has_run(run_id):
                self._require_same(run_id, folder)
                raise _AlreadyThere

    def _require_same(self, run_id: str, folder: Path) -> None:
        old = self.record(run_id).files
        new = parse_record((folder / RECORD).read_text(encoding="utf-8")).files
        changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
        if changed:
            raise ResultsError(
                f"run {run_id}: came out differently than recorded ({', '.join(changed)}); nothing was "
                "overwritten. The same recipe must give the same bytes on one machine: please report this"
            )

    def add_suite(self, name: str, recipes: Sequence[Recipe]) -> None:
        """Note which runs answer which points of a suite; the same note again changes nothing."""
        points = tuple(
            SuitePoint(
                label=recipe.label,
                control=recipe.control,
                run_id=recipe.run_id,
                setting_id=recipe.setting_id,
                method_id=recipe.method_id,
                seed=recipe.seed,
            )
            for recipe in recipes
        )
        note = SuiteFile(suite=name, board=recipes[0].board, points=points).model_dump(mode="json")
        file = self.root / "suites" / name / f"{digest(note)[:12]}.json"
        if not file.is_file():
            write_text(file, canonical_json(note))

    def suites(self) -> list[SuiteFile]:
        """All notes of all suites, by name."""
        return [self.suite(file) for file in sorted(self.root.glob("suites/**/[!.]*.json"))]

    def suite(self, file: Path) -> SuiteFile:
        """Read one note."""
        try:
            return SuiteFile.model_validate(parse_json(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise unreadable(file, error) from None

    def add_prompts(self, prompts: PromptSet, *, with_texts: bool) -> None:
        """Keep the prompts of an evaluation, once.

        Args:
            prompts: with their ids and groups, which are always kept.
            with_texts: whether the texts are too; those of other people's data are not ours to pass on.
        """
        file = self.root / "promptsets" / f"{prompts.sha256[:12]}.parquet"
        if file.is_file():
            return
        columns: dict[str, list[Any]] = {
            "prompt_id": [row.prompt_id for row in prompts.rows],
            "group_id": [row.group_id for row in prompts.rows],
        }
        if with_texts:
            columns["prompt"] = [[turn._asdict() for turn in row.prompt] for row in prompts.rows]
            columns["chosen"] = [list(row.chosen) for row in prompts.rows]
            columns["rejected"] = [list(row.rejected) for row in prompts.rows]
        with atomic_file(file) as temporary:
            pd.DataFrame(columns).to_parquet(temporary, compression="zstd", index=False)

    def data_version(self) -> str:
        """Digest of everything that a board is made from; timings are not."""
        files = [*self.root.glob("suites/**/[!.]*.json"), *self.root.glob(f"runs/[!.]*/{RECORD}")]
        files += self.root.glob("runs/[!.]*/scores/[!.]*.json")
        files += self.root.glob("published/[!.]*.csv")
        files += self.root.glob("imports/[!.]*.json")
        files += self.root.glob(RETRACTIONS)
        return digest([[str(file.relative_to(self.root)), file_digest(file)] for file in sorted(files)])[:12]

    def results(self) -> pd.DataFrame:
        """One row per run, scorer, task and metric."""
        rows = [
            {
                "run_id": record.run_id,
                "loss": record.recipe["loss"]["name"] if record.evaluate == "aligned" else record.evaluate,
                "seed": record.seed,
                "status": record.status,
                "kind": record.kind,
                "setting_id": record.setting_id,
                "method_id": record.method_id,
                **score.model_dump(),
            }
            for record in self.records()
            for file in self.score_files(record.run_id)
            for score in file.scores
        ]
        columns = ["run_id", "loss", "seed", "status", "kind", "setting_id", "method_id"]
        return pd.DataFrame(rows, columns=[*columns, *ScoreRecord.model_fields])
