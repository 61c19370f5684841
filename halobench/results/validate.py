"""`validate`: everything that must hold of a results folder, all problems at once, one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from halobench.errors import ResultsError
from halobench.feedback import EvaluationPrompt, Message, PromptSet
from halobench.results.check_run import Asked, run_problems
from halobench.results.imports import import_problems
from halobench.results.journal import journal_problems
from halobench.results.record import RunRecord, record_schema
from halobench.results.store import RECORD, Store, unreadable
from halobench.storage import digest, parse_json

SCHEMA = "run.schema.json"
_SHOWN = 5


@dataclass(frozen=True)
class Findings:
    """What was found in a results folder.

    Attributes:
        problems: one line each, with the file and the remedy.
        warnings: what makes no fact wrong: runs that are missing, code that was not committed.
        num_runs: runs that were looked at.
        num_whole: scores of whole runs, which no per-prompt rows give.
    """

    problems: list[str]
    warnings: list[str]
    num_runs: int
    num_whole: int


def validate(store: Store, report: Callable[[int, int], None] = lambda done, total: None) -> Findings:
    """Look for everything that is wrong with a results folder; nothing is changed.

    Args:
        store: the folder.
        report: told how many runs of how many are done.
    """
    problems = list(_unfinished(store.root))
    prompt_sets: dict[str, frozenset[str]] = {}
    for file in sorted(store.root.glob("promptsets/[!.]*.parquet")):
        problems += _prompt_set_problems(file, prompt_sets)
    asked = Asked(prompt_sets)
    run_ids = store.run_ids()
    for done, run_id in enumerate(run_ids):
        report(done, len(run_ids))
        problems += run_problems(store, run_id, asked)
    report(len(run_ids), len(run_ids))
    problems += _suite_problems(store)
    problems += journal_problems(store)
    problems += import_problems(store)
    problems += _schema_problems(store.root)
    warnings = [*_incomplete_suites(store), *_uncommitted(store)]
    return Findings(problems, warnings, len(run_ids), asked.num_whole)


def _unfinished(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob(".tmp-*")):
        yield f"{path}: was left unfinished; remove it, or let `halobench run` do so"
    for folder in sorted(root.glob("runs/[!.]*")):
        if not (folder / RECORD).is_file():
            yield f"{folder}: has no {RECORD}, so it is no run; remove it"


def _prompt_set_problems(file: Path, prompt_sets: dict[str, frozenset[str]]) -> Iterator[str]:
    try:
        frame = pd.read_parquet(file)
        ids = [str(name) for name in frame["prompt_id"]]
        known = _digest_of(frame) if "prompt" in frame else None  # texts of other people's data are not kept
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield from unreadable(file, error).problems
        return
    prompt_sets[file.stem] = frozenset(ids)
    if len(set(ids)) != len(ids):
        yield f"{file}: has {len(ids) - len(set(ids))} prompts twice; restore the file"
    if known is not None and known[:12] != file.stem:
        yield f"{file}: its prompts have the digest {known[:12]}, not that of its name; restore the file"


def _digest_of(frame: pd.DataFrame) -> str:
    return PromptSet(
        tuple(
            EvaluationPrompt(
                row["prompt_id"],
                row["group_id"],
                tuple(Message(**turn) for turn in row["prompt"]),
                tuple(row["chosen"]),
                tuple(row["rejected"]),
            )
            for row in frame.to_dict("records")
        )
    ).sha256


def _suite_problems(store: Store) -> Iterator[str]:
    for file in sorted(store.root.glob("suites/**/[!.]*.json")):
        try:
            document = parse_json(file.read_text(encoding="utf-8"))
            note = store.suite(file)
        except (OSError, ValueError) as error:
            yield from unreadable(file, error).problems
            continue
        except ResultsError as error:
            yield from error.problems
            continue
        if digest(document)[:12] != file.stem:
            yield f"{file}: is not what its name is the digest of; restore the file"
        if file.parent != store.root / "suites" / note.suite:
            yield f"{file}: is of the suite {note.suite!r}; put it into a folder of that name"
        for point in note.points:
            record = _readable(store, point.run_id)
            if record is not None and (record.setting_id, record.method_id, record.seed) != (
                point.setting_id,
                point.method_id,
                point.seed,
            ):
                yield f"{file}: {point.run_id}: has another setting, method or seed; restore the file"


def _incomplete_suites(store: Store) -> Iterator[str]:
    """Rows and seeds of suites that nobody has run yet."""
    for file in sorted(store.root.glob("suites/**/[!.]*.json")):
        try:
            points = store.suite(file).points
        except ResultsError:  # a problem, told elsewhere
            continue
        missing: dict[str, list[int]] = {}
        for point in points:
            if not store.has_run(point.run_id):
                missing.setdefault(point.label, []).append(point.seed)
        if missing:
            rows = [f"{label}: seeds {', '.join(map(str, seeds))}" for label, seeds in missing.items()]
            more = f" and {len(rows) - _SHOWN} more rows" if len(rows) > _SHOWN else ""
            shown = "; ".join(rows[:_SHOWN]) + more
            yield (
                f"{file}: {sum(map(len, missing.values()))} of its {len(points)} runs are not recorded "
                f"({shown}); go on with `halobench run`, or add them with `halobench results add`"
            )


def _uncommitted(store: Store) -> Iterator[str]:
    """Runs that no commit can make again."""
    records = [record for run_id in store.run_ids() if (record := _readable(store, run_id)) is not None]
    dirty = [record.run_id for record in records if record.provenance.dirty]
    if dirty:
        yield (
            f"{store.root}: {len(dirty)} of {len(records)} runs were made by code that differs from its "
            f"commit ({dirty[0]}, ...); commit the code and run them again"
        )


def _readable(store: Store, run_id: str) -> RunRecord | None:
    try:
        return store.record(run_id)
    except ResultsError:  # it is missing or damaged, which is told elsewhere
        return None


def _schema_problems(root: Path) -> Iterator[str]:
    file = root / SCHEMA
    if file.is_file() and file.read_bytes() != record_schema().encode():
        yield f"{file}: is not the schema of this halobench; rewrite it with `halobench results schema`"
