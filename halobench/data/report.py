"""What a base selection is made of, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import mean, median
from typing import NamedTuple

from halobench.feedback import Feedback, Response


class Lengths(NamedTuple):
    """How long some texts are.

    Attributes:
        mean: on average.
        median: half of them are shorter.
        longest: the longest of them.
    """

    mean: float
    median: float
    longest: int


@dataclass(frozen=True)
class Summary:
    """Counts of the tables of feedback that its fingerprint does not have.

    Attributes:
        num_responses: distinct answers, each to its prompt.
        num_contradictions: of them, those that are both desirable and undesirable.
        sources: rows of each data set: pairs, or labels where there are no pairs.
    """

    num_responses: int
    num_contradictions: int
    sources: dict[str, int]


def summarise(feedback: Feedback) -> Summary:
    """Count what the tables hold."""
    sides = Counter(
        response_id for response_id, _ in {(row.response_id, row.desirable) for row in feedback.labels}
    )
    rows = [pair.winner for pair in feedback.pairs] or [label.response_id for label in feedback.labels]
    return Summary(
        num_responses=len(feedback.responses),
        num_contradictions=sum(count == 2 for count in sides.values()),
        sources=dict(Counter(feedback.responses[row].source for row in rows)),
    )


def lengths(feedback: Feedback, measure: Callable[[Response], int]) -> dict[str, Lengths]:
    """Measure the desirable and the undesirable answers; one that is both counts on either side."""
    sides: dict[str, list[int]] = {"desirable": [], "undesirable": []}
    for label in feedback.labels:
        side = "desirable" if label.desirable else "undesirable"
        sides[side].append(measure(feedback.responses[label.response_id]))
    return {side: _lengths(found) for side, found in sides.items() if found}


def num_words(row: Response) -> int:
    """Words of an answer, as white space parts them."""
    return len(row.completion.split())


def _lengths(found: Iterable[int]) -> Lengths:
    known = list(found)
    return Lengths(mean(known), median(known), max(known))
