"""What sources that read rows from files share: splits by group, seeded selections, prompt sets."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from halobench.errors import DataError
from halobench.feedback import EvaluationPrompt, Feedback, Prompt, PromptSet, Response, Source

_BUCKETS = 10_000


@dataclass(frozen=True)
class Row:
    """A preference, or a response with its own label.

    Attributes:
        winner: the preferred or labelled response.
        loser: the other side of a preference; None for a labelled response.
        desirable: the label of a response without a pair.
        origin: whether the source gives that label, or its score.
    """

    winner: Response
    loser: Response | None = None
    desirable: bool = True
    origin: Literal["native", "score"] = "native"

    @property
    def group_id(self) -> str:
        """What must stay on one side of a split."""
        return self.winner.group_id


HELD_OUT = "group occurs in a held-out split"
EMPTY, SAME, NO_PROMPT = "an answer is empty", "both answers are the same", "there is no prompt"


def reason_to_drop(row: Row) -> str | None:
    """Why a row tells nothing, or None."""
    sides = [row.winner, *([row.loser] if row.loser is not None else [])]
    if not row.winner.prompt:
        return NO_PROMPT
    if any(not side.completion.strip() for side in sides):
        return EMPTY
    if row.loser is not None and row.winner.completion.strip() == row.loser.completion.strip():
        return SAME
    return None


def split_by_group(rows: Sequence[Row], *, test_share: float, dev_share: float) -> dict[str, list[Row]]:
    """Divide rows into train, dev and test by a digest of their group, so that added rows move no other."""
    split: dict[str, list[Row]] = {"train": [], "dev": [], "test": []}
    for row in rows:
        bucket = (
            int(hashlib.sha256(f"halobench-{row.group_id}".encode()).hexdigest(), 16) % _BUCKETS / _BUCKETS
        )
        side = "test" if bucket < test_share else "dev" if bucket < test_share + dev_share else "train"
        split[side].append(row)
    return split


class FileSource(Source):
    """Rows read from files, divided into train, dev and test.

    Args:
        content_id: digest of the files.
        splits: rows of each split; dev rows whose group occurs in test, and train rows whose group occurs in
            either, are dropped here.
        drops: rows left out while reading, by reason.

    Attributes:
        splits: the rows that are left of each split.
        drops: train rows left out, by reason.
    """

    def __init__(
        self, content_id: str, splits: Mapping[str, Sequence[Row]], drops: Mapping[str, int]
    ) -> None:
        self.content_id = content_id
        self.has_pairs = all(row.loser is not None for row in splits["train"])
        test = {group for row in splits["test"] for group in self.groups_of(row)}
        dev = [row for row in splits["dev"] if test.isdisjoint(self.groups_of(row))]
        held_out = test | {group for row in dev for group in self.groups_of(row)}
        train = [row for row in splits["train"] if held_out.isdisjoint(self.groups_of(row))]
        self.splits: Mapping[str, Sequence[Row]] = {"train": train, "dev": dev, "test": splits["test"]}
        self.drops = Counter(drops) + Counter({HELD_OUT: len(splits["train"]) - len(train)})

    @staticmethod
    def groups_of(row: Row) -> tuple[str, ...]:
        """What a row may not share with a row of another split."""
        return (row.winner.group_id,)

    def check_selection(self, *, num_pairs: int | None) -> None:
        """Raise unless there are that many train rows."""
        if not self.splits["train"]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.drops.items()))
            raise DataError(f"there is no row to train on{f' (dropped: {reasons})' if reasons else ''}")
        if num_pairs is not None and num_pairs > len(self.splits["train"]):
            raise DataError(
                f"{num_pairs} pairs are asked for but the train split has {len(self.splits['train'])}; "
                "ask for fewer"
            )

    def feedback(self, *, num_pairs: int | None, split_seed: int) -> Feedback:
        """Select `num_pairs` train rows, the first of a seeded permutation, in the order of the file."""
        self.check_selection(num_pairs=num_pairs)
        return feedback_from(select(self.splits["train"], num_pairs, split_seed), self.drops)

    def shapes(self) -> Iterable[Prompt]:
        """Return the first prompt of each sequence of roles."""
        found: dict[tuple[str, ...], Prompt] = {}
        for rows in self.splits.values():
            for row in rows:
                found.setdefault(tuple(turn.role for turn in row.winner.prompt), row.winner.prompt)
        return found.values()

    def prompt_set(self, split: Literal["dev", "test"]) -> PromptSet:
        """Return the distinct prompts of a split that have a preferred and another answer.

        Where answers were never paired, one of the two is enough.
        """
        rows = self.splits[split]
        answers: dict[str, tuple[Response, dict[str, None], dict[str, None]]] = {}
        for row in rows:
            _, chosen, rejected = answers.setdefault(row.winner.prompt_id, (row.winner, {}, {}))
            (chosen if row.desirable else rejected)[row.winner.completion] = None
            if row.loser is not None:
                rejected[row.loser.completion] = None
        prompts = [
            EvaluationPrompt(prompt_id, row.group_id, row.prompt, tuple(chosen), tuple(rejected))
            for prompt_id, (row, chosen, rejected) in answers.items()
            if (chosen and rejected) or not self.has_pairs
        ]
        if not prompts:
            raise DataError(
                f"the {split} split ({len(rows)} rows) has no prompt with both a preferred and another answer"
            )
        if not (any(row.chosen for row in prompts) and any(row.rejected for row in prompts)):
            raise DataError(
                f"the answers of the {split} split ({len(rows)} rows) all have the same label, so there is "
                "nothing to tell apart; give a split with both"
            )
        return PromptSet(tuple(prompts))


def select(rows: Sequence[Row], num_rows: int | None, split_seed: int) -> list[Row]:
    """Return the first rows of a seeded permutation (all of them if None), in their order."""
    order = list(range(len(rows)))
    random.Random(f"selection-{split_seed}").shuffle(order)
    return [rows[index] for index in sorted(order[:num_rows])]


def feedback_from(rows: Iterable[Row], drops: Mapping[str, int]) -> Feedback:
    """Make the tables of preferences, or of labelled responses; a file holds one kind."""
    rows = list(rows)
    if any(row.loser is None for row in rows):
        labels = [(row.winner, row.desirable) for row in rows]
        return Feedback.from_labels(labels, origins=[row.origin for row in rows], drops=drops)
    return Feedback.from_pairs(
        [(row.winner, row.loser) for row in rows if row.loser is not None], drops=drops
    )
