"""Leakage: what is trained on and asked in an evaluation too, in the same words or nearly so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from halobench.feedback import Prompt

NUM_WORDS = 13
_BLOCK = (NUM_WORDS + 1) // 2
_WORD = re.compile(r"\w+")
_NUM_EXAMPLES = 3

Words = tuple[str, ...]


class Leak(NamedTuple):
    """A text that is trained on, and the one of the evaluation that it gives away.

    Attributes:
        train: the former.
        held_out: the latter.
        shared: the words that they have in common.
    """

    train: str
    held_out: str
    shared: str


class Leakage(NamedTuple):
    """How much of a set of texts is trained on.

    Attributes:
        num_texts: distinct texts of the set.
        num_exact: of them, those that say the same as a train text.
        num_overlapping: of the others, those that share a run of words with one.
        examples: a few of both, the exact ones first.
    """

    num_texts: int
    num_exact: int
    num_overlapping: int
    examples: tuple[Leak, ...]


class Text(NamedTuple):
    """A text as it is compared.

    Attributes:
        shown: its words as they stand.
        key: what makes two of them the same; empty for none.
        words: all its words.
    """

    shown: str
    key: Words
    words: Words


def words_of(text: str) -> Words:
    """The words of a text, whatever their case, the white space and the punctuation."""
    return tuple(_WORD.findall(text.casefold()))


def as_prompt(prompt: Prompt) -> Text:
    """A prompt: it is the same as another where the first user turn is; system turns are left out."""
    turns = [turn for turn in prompt if turn.role != "system"]
    first = next((turn.content for turn in turns if turn.role == "user"), "")
    said = "\n".join(turn.content for turn in turns)
    return Text(said, words_of(first), words_of(said))


def as_completion(completion: str) -> Text:
    """A completion: only one of at least 13 words can be the same as another, since many say "yes"."""
    words = words_of(completion)
    return Text(completion, words if len(words) >= NUM_WORDS else (), ())


def find_leaks(train: Iterable[Text], held_out: Mapping[str, Iterable[Text]]) -> dict[str, Leakage]:
    """Look for the texts of some sets among the train texts.

    A text leaks where its key is that of a train text, or where 13 words in a row stand in one; shorter texts
    have no such run. What is looked up is kept by its words, so that the train texts are read once.

    Args:
        train: what is trained on.
        held_out: name of each set to its texts.
    """
    sets = {name: list(dict.fromkeys(texts)) for name, texts in held_out.items()}
    keys = {text.key for texts in sets.values() for text in texts if text.key}
    runs = {run for texts in sets.values() for text in texts for run in _runs(text.words, NUM_WORDS)}
    # wherever a run of 13 begins, it holds one of the blocks of 7 that a text is cut into from its beginning
    blocks = {block for texts in sets.values() for text in texts for block in _runs(text.words, _BLOCK)}
    exact: dict[Words, str] = {}
    shared: dict[Words, str] = {}
    for text in train:
        if text.key in keys:
            exact.setdefault(text.key, text.shown)
        if not blocks.isdisjoint(_runs(text.words, _BLOCK, step=_BLOCK)):
            for run in runs.intersection(_runs(text.words, NUM_WORDS)):
                shared.setdefault(run, text.shown)
    return {name: _leakage(texts, exact, shared) for name, texts in sets.items()}


def _runs(words: Words, length: int, *, step: int = 1) -> Iterator[Words]:
    """So many words in a row, from every place, or from every so many."""
    return zip(*(islice(words, start, None, step) for start in range(length)), strict=False)


def _leakage(texts: list[Text], exact: Mapping[Words, str], shared: Mapping[Words, str]) -> Leakage:
    same = [Leak(exact[text.key], text.shown, " ".join(text.key)) for text in texts if text.key in exact]
    overlapping = []
    for text in texts:
        run = (
            None
            if text.key in exact
            else next((run for run in _runs(text.words, NUM_WORDS) if run in shared), None)
        )
        if run is not None:
            overlapping.append(Leak(shared[run], text.shown, " ".join(run)))
    examples = (*same[:_NUM_EXAMPLES], *overlapping[:_NUM_EXAMPLES])
    return Leakage(len(texts), len(same), len(overlapping), examples)
