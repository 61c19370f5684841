"""Journals of a store: what happened to recorded runs, a line each; lines are only ever added."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from halobench.errors import ResultsError
from halobench.results.record import Provenance
from halobench.results.store import RETRACTIONS, Store, unreadable
from halobench.storage import digest, home, parse_json, write_text

VERIFICATIONS = "verifications.jsonl"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Retraction(_Line):
    """A run that does not count any more.

    Attributes:
        run_id: the run; its files stay.
        reason: why, in one line.
        superseded_by: the run that stands for it, if there is one.
        date: of the retraction, UTC.
    """

    run_id: str
    reason: str
    superseded_by: str | None = None
    date: datetime.date


class Verification(_Line):
    """A run that was run again from its record.

    Attributes:
        run_id: the run.
        agrees: whether status, feedback and all scores came out the same within the tolerance.
        tolerance: largest difference that counts as the same.
        largest: largest difference of a score.
        num_scores: scores that were compared.
        num_differing: those of them that differ.
        provenance: where it was run again.
        date: of the day, UTC.
    """

    run_id: str
    agrees: bool
    tolerance: float
    largest: float
    num_scores: int
    num_differing: int
    provenance: Provenance
    date: datetime.date


LineT = TypeVar("LineT", bound=_Line)
JOURNALS: Mapping[str, type[Retraction] | type[Verification]] = {
    RETRACTIONS: Retraction,
    VERIFICATIONS: Verification,
}


def today() -> datetime.date:
    """The date, UTC."""
    return datetime.datetime.now(datetime.UTC).date()


def read_lines(file: Path, kind: type[LineT]) -> list[LineT]:
    """Read a journal; one that is not there is empty.

    Raises:
        ResultsError: a line is not what it should be.
    """
    if not file.is_file():
        return []
    try:
        texts = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from None
    lines: list[LineT] = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(kind.model_validate(parse_json(text)))
        except ValueError as error:
            raise unreadable(Path(f"{file}:{number}"), error) from None
    return lines


def add_lines(file: Path, lines: Sequence[Retraction | Verification]) -> None:
    """Add lines at the end of a journal, all of them or none."""
    lock = home() / "locks" / digest(str(file.resolve()))[:16]
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        before = file.read_text(encoding="utf-8") if file.is_file() else ""
        added = "".join(f"{line.model_dump_json()}\n" for line in lines)
        write_text(file, before + ("\n" if before and not before.endswith("\n") else "") + added)


def retractions(store: Store) -> dict[str, Retraction]:
    """Runs that do not count any more, by name."""
    return {line.run_id: line for line in read_lines(store.root / RETRACTIONS, Retraction)}


def retract(store: Store, run_id: str, reason: str, superseded_by: str | None = None) -> Retraction:
    """Say that a run does not count any more; its files stay.

    Raises:
        ResultsError: there is no such run, it is retracted already, or the reason says nothing.
    """
    store.record(run_id)
    known = retractions(store).get(run_id)
    if known is not None:
        raise ResultsError(
            f"run {run_id!r}: was retracted on {known.date} ({known.reason}); a retraction is never changed"
        )
    if superseded_by is not None:
        store.record(superseded_by)
        if superseded_by == run_id or superseded_by in retractions(store):
            raise ResultsError(
                f"--superseded-by {superseded_by!r}: is retracted itself; name a run that counts"
            )
    words = " ".join(reason.split())
    if not words:
        raise ResultsError("--reason: is empty; say in a line why the run does not count any more")
    line = Retraction(run_id=run_id, reason=words, superseded_by=superseded_by, date=today())
    add_lines(store.root / RETRACTIONS, [line])
    return line


def journal_problems(store: Store) -> list[str]:
    """What is wrong with the journals, one line each."""
    problems: list[str] = []
    for name, kind in JOURNALS.items():
        try:
            lines = read_lines(store.root / name, kind)
        except ResultsError as error:
            problems += error.problems
            continue
        ids = [line.run_id for line in lines]
        ids += [line.superseded_by for line in lines if isinstance(line, Retraction) and line.superseded_by]
        problems += [
            f"{store.root / name}: {run_id}: is not recorded; add its run"
            for run_id in dict.fromkeys(ids)
            if not store.has_run(run_id)
        ]
        if kind is Retraction and len({line.run_id for line in lines}) < len(lines):
            problems.append(f"{store.root / name}: retracts a run twice; restore the file")
    return problems
