"""Anthropic's HH-RLHF: pairs of transcripts that differ in the last answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from halobench.data.sources.files import SAME, Row
from halobench.data.sources.published import OTHER_PROMPT, PublishedSource, answer, text
from halobench.data.sources.reading import Record
from halobench.feedback import Message, Prompt
from halobench.registry import SOURCES

_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


@SOURCES.register("hh", source="Bai et al. 2022, arXiv:2204.05862; Hub id Anthropic/hh-rlhf")
class HH(PublishedSource):
    """HH-RLHF transcripts from a folder (subsets with train and test .jsonl.gz or .jsonl), or from a Hub id.

    The subsets are helpful-base, helpful-online, helpful-rejection-sampled and harmless-base.
    Turns are told apart by their marker, the answer is what follows the last Assistant marker, the group is
    the first Human turn. A row is dropped, and counted, unless both prompts agree, both answers say something
    and differ. A tenth of the train groups is held out as dev; train groups that occur in test are dropped.
    """

    hub_id: ClassVar[str] = "Anthropic/hh-rlhf"
    subsets = "folders"

    @classmethod
    def rows_of(cls, record: Record, split: str, drops: Counter[str]) -> Sequence[Row]:
        """Parse a pair of transcripts."""
        pair = _parse(text(record, "chosen"), text(record, "rejected"))
        if isinstance(pair, str):
            drops[pair] += 1
            return []
        return [pair]


def _parse(chosen: str, rejected: str) -> Row | str:
    """Return the pair, or the reason why it cannot be used."""
    if chosen == rejected:
        return SAME
    sides = [_split(chosen), _split(rejected)]
    if any(not turns or turns[-1].role != "assistant" for turns in sides):
        return "the last turn is not the Assistant's"
    (*prompt, chosen_turn), (*other_prompt, other_turn) = sides
    if prompt != other_prompt:
        return OTHER_PROMPT
    turns: Prompt = tuple(prompt)
    return Row(
        answer(turns, chosen_turn.content, source="hh"), answer(turns, other_turn.content, source="hh")
    )


def _split(transcript: str) -> list[Message]:
    """Split a transcript at its markers; a quoted "Human:" without the blank line before it is text."""
    _, *parts = _MARKER.split(transcript)
    return [
        Message(_ROLES[marker], text.strip()) for marker, text in zip(parts[::2], parts[1::2], strict=True)
    ]
