"""The numbers that others published: facts copied from their tables, with the source of every row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from halobench.errors import ResultsError
from halobench.validation import explain

FOLDER = "published"
NAMES = {
    "base": "unaligned",
    "sft": "SFT",
    "csft": "CSFT",
    "slic": "SLiC",
    "dpo": "DPO",
    "kto": "KTO",
    "offline_ppo": "offline PPO",
}
Share = Annotated[float, Field(gt=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Tokens = Annotated[int, Field(ge=0)]


class PublishedCount(BaseModel):
    """How many comparisons one checkpoint won; one training seed, verdicts by prompt not published.

    Attributes:
        name: of the run, by its authors.
        setting: "scale", "imbalance" or "oasst".
        family: of the models.
        size: of the model, in words.
        model: Hub id it was trained from.
        sft: whether an SFT stage came before the loss.
        loss: by halobench's name; "base" is the model as it was.
        desirable_fraction: share of the desirable examples that was kept.
        lambda_d: weight of the desirable examples.
        undesirable_fraction: share of the undesirable ones.
        lambda_u: their weight.
        answers: all of a prompt, or one.
        wins: comparisons that the judge decided for the answer.
        losses: against it.
        total: comparisons; what is left was not decided, and counts as not won.
        length_mean: tokens of the answers.
        length_median: likewise.
        baseline_length_mean: of what they were compared with.
        printed_rate: win rate as the paper prints it, where it does.
        printed_half_width: what stands after the +- there.
        shown_in: figure or table.
        source: of the count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    setting: Literal["scale", "imbalance", "oasst"]
    family: str
    size: str
    model: str
    sft: bool
    loss: str
    desirable_fraction: Share
    lambda_d: Annotated[float, Field(gt=0)]
    undesirable_fraction: Share
    lambda_u: Annotated[float, Field(gt=0)]
    answers: Literal["all", "one_per_prompt"]
    wins: Annotated[int, Field(ge=0)]
    losses: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(gt=0)]
    length_mean: Tokens
    length_median: Tokens
    baseline_length_mean: Tokens
    printed_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    printed_half_width: Annotated[float, Field(ge=0, le=1)] | None = None
    shown_in: str
    source: str

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        if self.wins + self.losses > self.total:
            raise ValueError(
                f"wins + losses = {self.wins + self.losses}: must be at most total = {self.total}; "
                "copy them again"
            )
        return self

    @property
    def row(self) -> str:
        """The recipe as the paper writes it: SFT+KTO, or KTO where no SFT came before."""
        name = NAMES.get(self.loss, self.loss)
        return f"SFT+{name}" if self.sft else name


class PublishedScore(BaseModel):
    """Percentages of one checkpoint whose counts were not published.

    Attributes:
        name: of the loss, as printed.
        model: as printed.
        lc_winrate_percent: length-controlled win rate, AlpacaEval 2.
        winrate_percent: win rate, AlpacaEval 2.
        arena_hard_percent: win rate, Arena-Hard.
        note: what a reader must know of the row.
        source: of the numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    model: str
    lc_winrate_percent: Percent
    winrate_percent: Percent
    arena_hard_percent: Percent
    note: str = ""
    source: str


class Published(NamedTuple):
    """What a results folder has of others.

    Attributes:
        counts: of archangel.csv.
        scores: of simpo.csv.
    """

    counts: list[PublishedCount]
    scores: list[PublishedScore]


def load_published(results: Path) -> Published:
    """Read the published numbers of a results folder; empty where it has none.

    Raises:
        ResultsError: a file is not known, or a row of one is not valid; one line per problem.
    """
    folder = results / FOLDER
    known = {"archangel.csv", "simpo.csv"}
    strangers = sorted(path for path in folder.glob("[!.]*") if path.name not in known)
    if strangers:
        raise ResultsError(
            *(f"{path}: nothing reads it; known here: {', '.join(sorted(known))}" for path in strangers)
        )
    return Published(
        _rows(folder / "archangel.csv", PublishedCount), _rows(folder / "simpo.csv", PublishedScore)
    )


_Row = TypeVar("_Row", PublishedCount, PublishedScore)


def _rows(file: Path, kind: type[_Row]) -> list[_Row]:
    if not file.is_file():
        return []
    rows: list[_Row] = []
    problems: list[str] = []
    lines: dict[tuple[str, str], int] = {}
    for line, values in _lines(file):
        try:
            row = kind.model_validate({key: value for key, value in values.items() if value})
        except ValidationError as error:
            # what is wrong with a row as a whole has no column
            found = (problem.removeprefix(": ") for problem in explain(error, kind))
            problems += [f"{file}:{line}: {problem}" for problem in found]
            continue
        first = lines.setdefault((row.name, row.model), line)
        if first != line:
            problems.append(f"{file}:{line}: {row.name} of {row.model} is in line {first} already")
        rows.append(row)
    if problems:
        raise ResultsError(*problems)
    return rows


def _lines(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a file, each with the line that it ends in."""
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, restkey="cells after the last column")
        try:
            for values in reader:
                yield reader.line_num, values
        except (csv.Error, UnicodeDecodeError) as error:
            raise ResultsError(f"{file}:{reader.line_num}: {error}; copy it again") from None
