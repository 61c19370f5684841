"""Stanford Human Preferences: pairs of Reddit comments, preferred by their votes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from halobench.data.sources.files import Row
from halobench.data.sources.published import PublishedSource, answer, flag, number, text
from halobench.data.sources.reading import Record
from halobench.feedback import Message
from halobench.registry import SOURCES

_LEAST_RATIO = 2.0
_MOST_PAIRS = 5  # of a post
CLOSE, CROWDED = "the scores differ by less than half", "the post has more pairs than are taken"


@SOURCES.register("shp", source="Ethayarajh et al. 2022, PMLR 162:5988; Hub id stanfordnlp/SHP")
class SHP(PublishedSource):
    """SHP pairs; the score of a comment is its votes, the group the post.

    To train on, the better comment must have twice the votes, and at most five pairs of a post are taken, the
    first of a permutation that is seeded by the post. The other splits are whole. The subsets are the 18
    forums, askculinary for example.
    """

    hub_id: ClassVar[str] = "stanfordnlp/SHP"
    subsets = "folders"

    @classmethod
    def gather(cls, records: Iterable[Record]) -> Iterator[list[Record]]:
        """Yield the pairs of each post."""
        posts: dict[str, list[Record]] = {}
        for record in records:
            posts.setdefault(str(record.get("post_id")), []).append(record)
        yield from posts.values()

    @classmethod
    def rows_of(cls, record: list[Record], split: str, drops: Counter[str]) -> Sequence[Row]:
        """Parse the pairs of a post."""
        post = text(record[0], "post_id")
        pairs = record
        if split == "train":
            pairs = [pair for pair in record if _ratio(pair) >= _LEAST_RATIO]
            drops[CLOSE] += len(record) - len(pairs)
            if len(pairs) > _MOST_PAIRS:
                drops[CROWDED] += len(pairs) - _MOST_PAIRS
                kept = random.Random(f"shp-{post}").sample(range(len(pairs)), _MOST_PAIRS)
                pairs = [pairs[index] for index in sorted(kept)]
        rows = []
        for pair in pairs:
            prompt = (Message("user", text(pair, "history")),)
            first, second = (
                answer(
                    prompt,
                    text(pair, f"human_ref_{side}"),
                    source="shp",
                    group=post,
                    score=number(pair, f"score_{side}"),
                )
                for side in "AB"
            )
            rows.append(Row(first, second) if flag(pair, "labels") else Row(second, first))
        return rows


def _ratio(pair: Record) -> float:
    scores = sorted((number(pair, "score_A"), number(pair, "score_B")))
    return scores[1] / scores[0] if scores[0] > 0 else float("inf")
