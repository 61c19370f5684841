"""Thumbs from answers with scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import mean

from halobench.data.views import share_of
from halobench.feedback import Response
from halobench.sections import Binarise

CLOSE = "the score is too close to call"
TIED = "the score is the mean of the prompt's answers"
BETWEEN = "neither the best nor the worst answer"
CONSTANT = "all answers to the prompt have the same score"


def label_answers(
    answers: Sequence[Response], rule: Binarise, cuts: tuple[float, float], drops: Counter[str]
) -> list[tuple[Response, bool]]:
    """Give the scored answers to one prompt a thumb up (True) or down.

    Args:
        answers: with scores, in any order; of equal ones the first counts as better.
        rule: see `Binarise`; from threshold + margin on the thumb is up, below threshold - margin it is down.
        cuts: of "quantile", see `quantile_cuts`.
        drops: answers without a thumb are counted here.
    """
    if rule.rule == "best_vs_worst":
        ranked = sorted(answers, key=lambda answer: -_score(answer))
        if _score(ranked[0]) == _score(ranked[-1]):
            drops[CONSTANT] += len(answers)
            return []
        drops[BETWEEN] += len(answers) - 2
        return [(ranked[0], True), (ranked[-1], False)]
    middle = mean(map(_score, answers)) if rule.at is None else rule.at
    labelled = []
    for answer in answers:
        score = _score(answer)
        if rule.rule == "quantile":
            up, down = score >= cuts[1], score <= cuts[0]
        else:
            up, down = score >= middle + rule.margin, score < middle - rule.margin
        if rule.rule == "prompt_mean" and score == middle:
            drops[TIED] += 1
        elif up != down:
            labelled.append((answer, up))
        else:
            drops[CLOSE] += 1
    return labelled


def quantile_cuts(answers: Sequence[Response], rule: Binarise) -> tuple[float, float]:
    """Return the score up to which the thumb is down, and the one from which it is up.

    They are the scores of the last answers of the two shares, which are rounded up. Answers with the score of
    the last one belong with it, so that equal scores have equal thumbs and a share may turn out larger; where
    the two scores are one, the answers that have it get no thumb. For other rules they mean nothing.
    """
    if rule.rule != "quantile" or rule.at is None or not answers:
        return 0.0, 0.0
    scores = sorted(map(_score, answers))
    num_cut = share_of(rule.at, len(scores))
    return scores[num_cut - 1], scores[-num_cut]


def _score(answer: Response) -> float:
    return answer.score or 0.0
