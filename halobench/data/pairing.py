"""Pairs from answers with scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Literal

from halobench.feedback import Response

Pairing = Literal["adjacent", "all", "best_vs_worst", "best_vs_rest"]
TIE = "the answers have the same score"


def pair_up(
    answers: Sequence[Response], rule: Pairing, drops: Counter[str]
) -> list[tuple[Response, Response]]:
    """Pair the scored answers to one prompt, the better one first.

    Args:
        answers: with scores, in any order; equal ones keep theirs.
        rule: "adjacent" pairs each answer with the next worse one, "all" every two, "best_vs_worst" the ends,
            "best_vs_rest" the best one with every other.
        drops: pairs of equal score are counted here.
    """
    ranked = sorted(answers, key=lambda answer: -(answer.score or 0.0))
    match rule:
        case "adjacent":
            pairs = list(pairwise(ranked))
        case "all":
            pairs = list(combinations(ranked, 2))
        case "best_vs_worst":
            pairs = [(ranked[0], ranked[-1])] if len(ranked) > 1 else []
        case "best_vs_rest":
            pairs = [(ranked[0], other) for other in ranked[1:]]
    kept = [(better, worse) for better, worse in pairs if better.score != worse.score]
    if len(kept) < len(pairs):
        drops[TIE] += len(pairs) - len(kept)
    return kept
