"""The canonical tables of feedback, their fingerprint, evaluation prompts, and where both come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import ClassVar, Literal, NamedTuple

from halobench.storage import digest


class Message(NamedTuple):
    """One turn of a prompt.

    Attributes:
        role: "user", "assistant" or "system".
        content: what was said.
    """

    role: str
    content: str


Prompt = tuple[Message, ...]


class Response(NamedTuple):
    """One distinct (prompt, completion).

    Attributes:
        response_id: digest of prompt and completion.
        prompt_id: digest of the prompt.
        group_id: what must stay on one side of a split (a conversation, a constraint).
        prompt: the turns before the completion.
        completion: the text.
        score: quality where the source gives one, higher is better.
        source: name of the data set.
    """

    response_id: str
    prompt_id: str
    group_id: str
    prompt: Prompt
    completion: str
    score: float | None
    source: str


class Pair(NamedTuple):
    """A preference between two responses to one prompt.

    Attributes:
        prompt_id: the prompt of both.
        winner: response_id of the preferred one.
        loser: response_id of the other.
        margin: difference of their scores, where the source gives one.
    """

    prompt_id: str
    winner: str
    loser: str
    margin: float | None


class Label(NamedTuple):
    """A thumb up or down on one response.

    Attributes:
        response_id: the response.
        desirable: True for a thumb up.
        origin: "pair" when it follows from a preference, "native" when the source gives it, "score" when it
            follows from the score of the response.
    """

    response_id: str
    desirable: bool
    origin: Literal["pair", "native", "score"]


class Fingerprint(NamedTuple):
    """What proves that two runs were trained on the same feedback.

    Attributes:
        sha256: digest over the three tables.
        num_prompts: distinct prompts.
        num_pairs: preferences.
        num_desirable: distinct responses with a thumb up.
        num_undesirable: distinct responses with a thumb down.
        drops: rows of the source that were left out, by reason.
    """

    sha256: str
    num_prompts: int
    num_pairs: int
    num_desirable: int
    num_undesirable: int
    drops: Mapping[str, int]


def response(
    prompt: Prompt, completion: str, *, group_id: str, source: str, score: float | None = None
) -> Response:
    """Make a `Response` with its ids."""
    prompt_id = digest([list(turn) for turn in prompt])[:16]
    return Response(
        digest([prompt_id, completion])[:16], prompt_id, group_id, prompt, completion, score, source
    )


@dataclass(frozen=True)
class Feedback:
    """One canonical set of feedback, of which every loss is shown a view.

    Attributes:
        responses: response_id to response, in the order in which the source gives them.
        pairs: preferences.
        labels: thumbs; those of pairs included, each distinct (response, label) once.
        drops: rows of the source left out, by reason.
    """

    responses: Mapping[str, Response]
    pairs: tuple[Pair, ...]
    labels: tuple[Label, ...]
    drops: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_pairs(
        cls, rows: list[tuple[Response, Response]], *, drops: Mapping[str, int] | None = None
    ) -> Feedback:
        """Make the tables from (winner, loser) rows."""
        responses = {side.response_id: side for row in rows for side in row}
        pairs = tuple(
            Pair(winner.prompt_id, winner.response_id, loser.response_id, _margin(winner, loser))
            for winner, loser in rows
        )
        labels = dict.fromkeys(
            Label(response_id, desirable, "pair")
            for pair in pairs
            for response_id, desirable in ((pair.winner, True), (pair.loser, False))
        )
        return cls(responses, pairs, tuple(labels), dict(drops or {}))

    @classmethod
    def from_labels(
        cls,
        rows: list[tuple[Response, bool]],
        *,
        origins: Iterable[Literal["native", "score"]] = repeat("native"),
        drops: Mapping[str, int] | None = None,
    ) -> Feedback:
        """Make the tables from (response, desirable) rows that belong to no pair, and where each is from."""
        responses = {row.response_id: row for row, _ in rows}
        labels = dict.fromkeys(
            Label(row.response_id, desirable, origin)
            for (row, desirable), origin in zip(rows, origins, strict=False)
        )
        return cls(responses, (), tuple(labels), dict(drops or {}))

    def without(self, refused: Mapping[str, str]) -> Feedback:
        """The same without some responses, and without the pairs that lose a side.

        Args:
            refused: response_id to the reason, under which the pair or label is counted.
        """
        if not refused:
            return self
        kept = {key: row for key, row in self.responses.items() if key not in refused}
        drops = Counter(self.drops)
        pairs = []
        for pair in self.pairs:
            reason = refused.get(pair.winner) or refused.get(pair.loser)
            if reason is None:
                pairs.append(pair)
            else:
                drops[reason] += 1
        if not self.pairs:
            drops.update(refused[row.response_id] for row in self.labels if row.response_id in refused)
            return Feedback(kept, (), tuple(row for row in self.labels if row.response_id in kept), drops)
        return Feedback.from_pairs([(kept[pair.winner], kept[pair.loser]) for pair in pairs], drops=drops)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Digest and counts of the three tables."""
        tables = [
            [self.responses[key] for key in sorted(self.responses)],
            list(self.pairs),
            list(self.labels),
        ]
        counts = Counter(label.desirable for label in self.labels)
        return Fingerprint(
            sha256=digest(tables),
            num_prompts=len({row.prompt_id for row in self.responses.values()}),
            num_pairs=len(self.pairs),
            num_desirable=counts[True],
            num_undesirable=counts[False],
            drops=dict(sorted(self.drops.items())),
        )


def _margin(winner: Response, loser: Response) -> float | None:
    if winner.score is None or loser.score is None:
        return None
    return winner.score - loser.score


class EvaluationPrompt(NamedTuple):
    """One prompt of an evaluation.

    Attributes:
        prompt_id: distinct within its set.
        group_id: what clusters prompts that belong together.
        prompt: the turns.
        chosen: preferred answers, the baseline of win rates; the first is the pair's.
        rejected: other answers; the first belongs to the first chosen one.
    """

    prompt_id: str
    group_id: str
    prompt: Prompt
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]


@dataclass(frozen=True)
class PromptSet:
    """The prompts of an evaluation; they never depend on a seed.

    Attributes:
        rows: the prompts, in a fixed order.
    """

    rows: tuple[EvaluationPrompt, ...]

    @cached_property
    def sha256(self) -> str:
        """Digest of the rows."""
        return digest(list(self.rows))


class Source(ABC):
    """Where feedback comes from: a world or a data set.

    Attributes:
        is_world: whether it knows the true utility of any text, and brings a tokenizer.
        is_ranked: whether it has several scored answers to a prompt, and its `open` takes a rule for pairs as
            the keyword `pairing`, or one for single labels as `binarise`.
        subsets: what its parts are where it comes in parts, folders or configurations of a data set; its
            `open` then takes the name of one as the keyword `subset`.
        has_pairs: whether its rows are preferences, and not single answers with a label.
        content_id: changes whenever the rows that the source would give change; part of a run's identity.
    """

    is_world: ClassVar[bool] = False
    is_ranked: ClassVar[bool] = False
    subsets: ClassVar[Literal["folders", "configurations"] | None] = None
    has_pairs: bool = True
    content_id: str

    @classmethod
    @abstractmethod
    def open(cls, *, path: str | None, world_seed: int) -> Source:
        """Read what is at `path`, or draw the world `world_seed`.

        Raises:
            DataError: the path is missing or unreadable, or its rows are not what the source expects; one
                line each.
        """

    @abstractmethod
    def check_selection(self, *, num_pairs: int | None) -> None:
        """Raise what `feedback` would raise for this size, without drawing anything.

        Raises:
            DataError: there are fewer pairs, or no end of them.
        """

    @abstractmethod
    def feedback(self, *, num_pairs: int | None, split_seed: int) -> Feedback:
        """Draw the base selection: `num_pairs` train pairs (all of them if None), chosen by `split_seed`.

        Raises:
            DataError: see `check_selection`.
        """

    def shapes(self) -> Iterable[Prompt]:
        """Return a prompt of each sequence of roles there is, where a chat template might refuse one."""
        return ()

    @abstractmethod
    def prompt_set(self, split: Literal["dev", "test"]) -> PromptSet:
        """Return the prompts of a split, the same for every seed."""
