"""Numbers that others published or logged, kept beside the runs as rows of kind `import`, never ranked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, Field

from halobench.errors import ResultsError
from halobench.results.private import private_texts
from halobench.results.store import Store, unreadable
from halobench.storage import canonical_json, parse_json, write_text

NULL = "n_null"  # among counts: judgements that failed, which are no ties
MAX_NULL = 0.02
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Ge(0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImportedScore(_Part):
    """One number about one checkpoint; there are no per-prompt rows, so it cannot be paired with a run.

    Attributes:
        checkpoint: model, or step of a training.
        task: what was evaluated.
        metric: what number; win rates are in [0, 1].
        value: the number.
        stderr: as it was published; None where it was not.
        num_samples: prompts behind it.
        higher_is_better: None where neither is, or nobody says.
        counts: of outcomes, where they are known.
    """

    checkpoint: str
    task: str
    metric: str
    value: Finite
    stderr: Finite | None = None
    num_samples: Count | None = None
    higher_is_better: bool | None = None
    counts: dict[str, Count] = Field(default_factory=dict)


class Import(_Part):
    """What was read of one file.

    Attributes:
        schema_version: of this layout.
        kind: what keeps it apart from runs.
        name: under which it is kept.
        source: the program that wrote the file.
        what: what the numbers are, in a line.
        file: name of the file.
        sha256: digest of it.
        facts: versions and settings that the file tells.
        drops: entries that were left out, by reason.
        scores: the numbers.
    """

    schema_version: Literal[1] = 1
    kind: Literal["import"] = "import"
    name: str
    source: Literal["lm-eval", "alpaca-eval", "trl"]
    what: str
    file: str
    sha256: str
    facts: dict[str, str]
    drops: dict[str, Count]
    scores: tuple[ImportedScore, ...]


def import_names(store: Store) -> list[str]:
    """Names of all imports of a store."""
    return sorted(file.stem for file in store.root.glob("imports/[!.]*.json"))


def read_import(store: Store, name: str) -> Import:
    """Read an import.

    Raises:
        ResultsError: it is not there, or not of this layout.
    """
    file = store.root / "imports" / f"{name}.json"
    try:
        return Import.model_validate(parse_json(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from None


def add_import(store: Store, found: Import) -> Path:
    """Keep an import; the same again changes nothing.

    Raises:
        ResultsError: its name is no name, or is that of another import; too many judgements failed.
    """
    failures = list(_null_problems(found))
    if failures:
        raise ResultsError(*(f"{found.file}: {problem}" for problem in failures))
    if not _NAME.fullmatch(found.name):
        raise ResultsError(
            f"--name {found.name!r}: must be letters, digits, '.', '-' and '_', for example alpaca-eval-2"
        )
    file = store.root / "imports" / f"{found.name}.json"
    if file.is_file() and read_import(store, found.name) != found:
        raise ResultsError(f"--name {found.name!r}: is that of another import, {file}; choose another name")
    if not file.is_file():
        write_text(file, canonical_json(found.model_dump(mode="json")))
    return file


def import_problems(store: Store) -> list[str]:
    """What is wrong with the imports of a store, one line each."""
    problems: list[str] = []
    for name in import_names(store):
        file = store.root / "imports" / f"{name}.json"
        try:
            found = read_import(store, name)
        except ResultsError as error:
            problems += error.problems
            continue
        if found.name != name:
            problems.append(f"{file}: name = {found.name!r}: is not that of the file; import it again")
        problems += [f"{file}: {problem}" for problem in _null_problems(found)]
        problems += [
            f"{file}: {key}: holds {kind}; import a file that has none"
            for key, kind in private_texts(found.model_dump(mode="json"))
        ]
    return problems


def _null_problems(found: Import) -> Iterator[str]:
    """Win rates of which so many judgements failed that they may be anything."""
    for score in found.scores:
        failed = score.counts.get(NULL, 0)
        asked = failed + (score.num_samples or 0)
        if failed > MAX_NULL * asked:
            yield (
                f"{score.checkpoint}: {score.task}: {failed} of {asked} judgements failed, more than "
                f"{MAX_NULL:.0%}; judge those again and import the whole"
            )
