"""UltraFeedback as it was collected: four answers to a prompt, rated by GPT-4 on four aspects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import mean
from typing import Any, ClassVar

from halobench.data.pairing import Pairing
from halobench.data.sources.published import answer, objects, text
from halobench.data.sources.ranked import RankedSource
from halobench.data.sources.reading import Record
from halobench.feedback import Message, Response
from halobench.registry import SOURCES

_ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
UNRATED = "an answer has no rating"


@SOURCES.register("ultrafeedback_ratings", source="Cui et al. 2023, arXiv:2310.01377")
class UltraFeedbackRatings(RankedSource):
    """openbmb/UltraFeedback: by default the best of the rated answers against the worst; ties are dropped.

    The score is the mean of the aspects that have a rating, not overall_score, which was wrong for a part of
    the rows.
    """

    hub_id: ClassVar[str] = "openbmb/UltraFeedback"
    pairing: ClassVar[Pairing] = "best_vs_worst"

    @classmethod
    def answers_of(cls, record: Record, drops: Counter[str]) -> Iterator[list[Response]]:
        """Yield the rated answers to a prompt."""
        prompt = (Message("user", text(record, "instruction")),)
        answers = []
        for completion in objects(record, "completions"):
            score = _score(completion)
            if score is None:
                drops[UNRATED] += 1
                continue
            answers.append(
                answer(prompt, text(completion, "response"), source="ultrafeedback_ratings", score=score)
            )
        yield answers


def _score(completion: Mapping[str, Any]) -> float | None:
    annotations = completion.get("annotations")
    found = annotations if isinstance(annotations, Mapping) else {}
    aspects = [found.get(aspect) for aspect in _ASPECTS]
    ratings = [str(aspect.get("Rating")) for aspect in aspects if isinstance(aspect, Mapping)]
    known = [float(rating) for rating in ratings if rating.replace(".", "", 1).isdigit()]
    return mean(known) if known else None
