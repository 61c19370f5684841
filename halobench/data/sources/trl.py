"""The formats of TRL: preferences and single answers, as texts or as turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from halobench.data.sources.files import Row
from halobench.data.sources.published import (
    OTHER_PROMPT,
    PublishedSource,
    UnexpectedRowError,
    answer,
    flag,
    last_text,
    number,
    text,
    turns,
)
from halobench.data.sources.reading import Record
from halobench.feedback import Message, Prompt
from halobench.registry import SOURCES

TIED = "the two sides have the same score"
REVERSED = "the scores contradict the preference"
# where data sets of this form keep their scores
_SCORES = (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating"))


def preference(record: Record, drops: Counter[str], *, source: str) -> list[Row]:
    """Parse {"prompt"?, "chosen", "rejected"}, whose sides may repeat the prompt as their first turns.

    Scores beside them, or in "metadata", are kept; a pair that they tie or contradict is dropped.
    """
    sides: list[tuple[Prompt, str]] = []
    for key in ("chosen", "rejected"):
        if isinstance(record.get(key), str):
            if "prompt" not in record:
                raise UnexpectedRowError(
                    f'"prompt" is missing, and "{key}" is a text; expected the prompt apart, because where '
                    "two texts part is not where the answer begins"
                )
            sides.append((turns(record, "prompt"), text(record, key)))
        else:
            *before, last = turns(record, key) or (Message("assistant", ""),)
            if not before and "prompt" in record:
                before = list(turns(record, "prompt"))
            if last.role != "assistant":
                drops["the last turn is not the assistant's"] += 1
                return []
            sides.append((tuple(before), last.content))
    (prompt, chosen), (other_prompt, rejected) = sides
    if prompt != other_prompt:
        drops[OTHER_PROMPT] += 1
        return []
    scores = _scores(record)
    if scores is not None and chosen.strip() != rejected.strip() and scores[0] <= scores[1]:
        drops[TIED if scores[0] == scores[1] else REVERSED] += 1
        return []
    first, second = scores or (None, None)
    return [
        Row(
            answer(prompt, chosen, source=source, score=first),
            answer(prompt, rejected, source=source, score=second),
        )
    ]


def _scores(record: Record) -> tuple[float, float] | None:
    metadata = record.get("metadata")
    for place in (record, metadata if isinstance(metadata, Mapping) else {}):
        for chosen, rejected in _SCORES:
            if place.get(chosen) is not None and place.get(rejected) is not None:
                return number(place, chosen), number(place, rejected)
    return None


def labelled(record: Record, *, source: str) -> list[Row]:
    """Parse {"prompt", "completion", "label"}, or {"messages", "label"} whose last turn is the answer."""
    if "messages" in record:
        prompt, completion = turns(record, "messages")[:-1], last_text(record, "messages")
    else:
        prompt, completion = turns(record, "prompt"), last_text(record, "completion")
    return [Row(answer(prompt, completion, source=source), desirable=flag(record, "label"))]


@SOURCES.register("trl", source="huggingface.co/docs/trl/dataset_formats")
class TRL(PublishedSource):
    """Rows in a format of TRL: {"prompt", "chosen", "rejected"} or {"prompt", "completion", "label"}.

    Texts or lists of {"role", "content"}; lists may repeat the prompt in both sides. A data set holds one of
    the two. Scores (score_chosen, chosen-rating, or within metadata) are kept, and tied pairs dropped.
    """

    hub_id: ClassVar[str] = "trl-lib/ultrafeedback_binarized"

    @classmethod
    def rows_of(cls, record: Record, split: str, drops: Counter[str]) -> Sequence[Row]:
        """Parse a row of either format."""
        if "label" in record:
            return labelled(record, source="trl")
        return preference(record, drops, source="trl")
