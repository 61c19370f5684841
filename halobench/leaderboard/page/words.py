"""Which words of two texts differ."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

SHOWN_CHARACTERS = 2000


class Piece(NamedTuple):
    """A stretch of words.

    Attributes:
        text: with the spaces that follow it.
        only_here: whether the other text lacks it at this place.
    """

    text: str
    only_here: bool


def word_diff(left: str, right: str) -> tuple[list[Piece], list[Piece]]:
    """Mark the words of each text that the other one lacks; the pieces of a text add up to it."""
    words = [re.findall(r"\S+\s*|^\s+", text) for text in (left, right)]
    first, second = ([word.strip() for word in side] for side in words)
    pieces: tuple[list[Piece], list[Piece]] = ([], [])
    for tag, *spans in SequenceMatcher(None, first, second).get_opcodes():
        for side, (start, end) in enumerate((spans[:2], spans[2:])):
            if start < end:
                pieces[side].append(Piece("".join(words[side][start:end]), tag != "equal"))
    return pieces


def cut(text: str) -> tuple[str, int]:
    """Cut a text that is too long to be shown; the number of characters that are left out comes with it."""
    return text[:SHOWN_CHARACTERS], max(0, len(text) - SHOWN_CHARACTERS)
