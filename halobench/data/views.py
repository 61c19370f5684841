"""Matched views: what each kind of loss is shown of one and the same feedback."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from halobench.errors import DataError
from halobench.feedback import Feedback, Response, response


class Example(NamedTuple):
    """One completion as a loss sees it.

    Attributes:
        response: prompt and completion.
        desirable: its label; True for the preferred side of a pair and for demonstrations.
    """

    response: Response
    desirable: bool


@dataclass(frozen=True)
class View:
    """The examples of a view, grouped by what stays together in one optimizer step.

    Attributes:
        kind: name of the batch type: "Pairs", "Binary", "Conditional" or "Demonstrations".
        units: number of each base pair (or of each labelled response where there are no pairs) to its
            examples. A unit that the view does not show is not there; one whose examples all stand in earlier
            units is empty.
        num_base_units: base pairs, or labelled responses, of the feedback, each as often as it is annotated.
        paired: whether a unit is a pair, and not a single labelled response.
    """

    kind: str
    units: Mapping[int, tuple[Example, ...]]
    num_base_units: int
    paired: bool

    @property
    def completions_per_unit(self) -> int:
        """Completions of the base selection that a unit stands for, shown or not."""
        return 2 if self.paired else 1

    @property
    def examples(self) -> Iterator[Example]:
        """All examples, unit by unit."""
        return (example for unit in self.units.values() for example in unit)


def make_view(
    feedback: Feedback,
    kind: str,
    *,
    labels: Literal["given", "shuffled"] = "given",
    best: Callable[[Sequence[Response]], Sequence[str]] | None = None,
    label_noise: float = 0.0,
    contradicting_share: float = 0.0,
    contradictions: Literal["keep", "majority", "drop"] = "keep",
    one_per_prompt: bool = False,
    fraction: float = 1.0,
    desirable_fraction: float = 1.0,
    undesirable_fraction: float = 1.0,
    seed: int = 0,
) -> View:
    """Make the view of a kind of loss; for the same feedback every kind has the same units.

    Pairs show both sides; Binary and Conditional each distinct (prompt, completion, label) once;
    Demonstrations each distinct preferred completion once. Where a fraction of a label is kept, pairs are
    those of which both sides are left.

    Args:
        feedback: the base selection.
        kind: name of the batch type.
        labels: "shuffled" permutes the labels over the completions (a coin per pair for Pairs).
        best: returns better completions for the demonstrations, in their order.
        label_noise: share of the pairs, or of the labels where there are no pairs, that is turned round for
            every kind of loss; a smaller share is a part of a larger one.
        contradicting_share: of all annotations, the share that contradicts another one, at most half. So many
            units come once more, turned round, as if an annotator of the opposite taste had judged them too:
            S / (1 - S) of the units for a share S, a smaller one a part of a larger one. With noise there is
            one annotation and it is wrong; here both stand, there are more of them, and at one half every
            unit is shown both ways.
        contradictions: what kinds without pairs show of a completion that is both desirable and undesirable,
            over all its units: "keep" both labels, the one that more units give ("majority"; neither where
            they are equal), or neither ("drop").
        fraction: of the units that is shown, rounded up; a smaller one is a part of a larger one.
        one_per_prompt: keep one labelled completion of each prompt, as many of either label as there can be.
        desirable_fraction: of the distinct desirable completions that is kept, rounded up; a smaller fraction
            keeps a part of what a larger one keeps.
        undesirable_fraction: of the undesirable ones.
        seed: of the shuffle, and of what is kept.

    Raises:
        DataError: the view needs pairs and the feedback has none, or one completion a prompt; or there is
            nothing but contradictions, and they are not kept.
    """
    base = _turn_round(_pair_units(feedback) if feedback.pairs else _label_units(feedback), label_noise, seed)
    base += _contradicting(base, contradicting_share, seed)
    if kind == "Pairs" and not feedback.pairs:
        raise DataError(
            "this loss needs pairs, and the data are single answers with a label; use kto, csft or sft"
        )
    if kind == "Pairs" and one_per_prompt:
        raise DataError(
            "data.answers = 'one_per_prompt' leaves no pairs, and this loss needs them; use kto, csft or sft"
        )
    sources = [unit[0].response.source for unit in base]
    numbers = sorted(_drawn(sources, fraction, random.Random(f"fraction-{seed}")))
    shown = [(number, base[number]) for number in numbers]
    if kind == "Demonstrations":
        kept = ((number, tuple(e for e in unit if e.desirable)) for number, unit in shown)
        shown = [(number, unit) for number, unit in kept if unit]
    examples = [example for number in numbers for example in base[number]]
    left = dict.fromkeys(examples)
    if kind != "Pairs" and contradictions != "keep":
        left = _settled(Counter(examples), contradictions)
        if not left:
            raise DataError(
                f"data.contradictions = {contradictions!r} leaves nothing to train on: every answer is both "
                "desirable and undesirable; use keep"
            )
    if one_per_prompt:
        left = _one_per_prompt(left, random.Random(f"one-per-prompt-{seed}"))
    left = _fractions(left, {True: desirable_fraction, False: undesirable_fraction}, seed)
    shown = _only(shown, left, in_pairs=kind == "Pairs")
    numbers, units = [number for number, _ in shown], [unit for _, unit in shown]
    if kind == "Demonstrations" and best is not None:
        units = _replace_completions(units, best)
    if kind != "Pairs":
        units = _without_repeats(units)
    if kind != "Demonstrations" and labels == "shuffled":
        units = _shuffle_labels(units, random.Random(f"labels-{seed}"), in_pairs=kind == "Pairs")
    return View(kind, dict(zip(numbers, units, strict=True)), len(base), bool(feedback.pairs))


def _pair_units(feedback: Feedback) -> list[tuple[Example, ...]]:
    responses = feedback.responses
    return [
        (Example(responses[pair.winner], True), Example(responses[pair.loser], False))
        for pair in feedback.pairs
    ]


def _label_units(feedback: Feedback) -> list[tuple[Example, ...]]:
    return [(Example(feedback.responses[row.response_id], row.desirable),) for row in feedback.labels]


def _turn_round(units: list[tuple[Example, ...]], share: float, seed: int) -> list[tuple[Example, ...]]:
    """Exchange the labels of a share of the units; the preferred side stays the first."""
    sources = [unit[0].response.source for unit in units]
    wrong = set(_drawn(sources, share, random.Random(f"label-noise-{seed}")))
    return [_turned(unit) if number in wrong else unit for number, unit in enumerate(units)]


def _contradicting(
    units: Sequence[tuple[Example, ...]], share: float, seed: int
) -> list[tuple[Example, ...]]:
    """The second annotations, in the order of the first."""
    sources = [unit[0].response.source for unit in units]
    drawn = _drawn(sources, share / (1 - share), random.Random(f"contradicting-{seed}"))
    return [_turned(units[number]) for number in sorted(drawn)]


def _settled(votes: Counter[Example], rule: Literal["majority", "drop"]) -> dict[Example, None]:
    """The examples that no other label contradicts, or is in the minority."""
    kept: dict[Example, None] = {}
    for example, num_votes in votes.items():
        against = votes[example._replace(desirable=not example.desirable)]
        if not against or (rule == "majority" and num_votes > against):
            kept[example] = None
    return kept


def _turned(unit: tuple[Example, ...]) -> tuple[Example, ...]:
    return tuple(example._replace(desirable=not example.desirable) for example in reversed(unit))


def _drawn(sources: Sequence[str], share: float, stream: random.Random) -> list[int]:
    """Numbers of a share of some things, so many of each source: the first of a permutation."""
    strata: dict[str, list[int]] = {}
    for number, source in enumerate(sources):
        strata.setdefault(source, []).append(number)
    drawn: list[int] = []
    for members in strata.values():
        stream.shuffle(members)
        drawn += members[: share_of(share, len(members))]
    return drawn


def share_of(share: float, total: int) -> int:
    """A share of a total, rounded up; .07 * 100 is a hair above the whole number that it is."""
    return math.ceil(share * total - 1e-9)


def _one_per_prompt(examples: Iterable[Example], stream: random.Random) -> dict[Example, None]:
    """One example of each prompt, of the label that is behind where the prompt has both."""
    by_prompt: dict[str, list[Example]] = {}
    for example in examples:
        by_prompt.setdefault(example.response.prompt_id, []).append(example)
    prompts = list(by_prompt.values())
    stream.shuffle(prompts)
    prompts.sort(key=lambda found: len({example.desirable for example in found}))  # first who has no choice
    kept: dict[Example, None] = {}
    ahead = 0  # desirable ones over undesirable ones
    for found in prompts:
        wanted = [example for example in found if example.desirable is (ahead <= 0)]
        example = stream.choice(wanted or found)
        ahead += 1 if example.desirable else -1
        kept[example] = None
    return kept


def _fractions(
    examples: Iterable[Example], fractions: Mapping[bool, float], seed: int
) -> dict[Example, None]:
    """A fraction of the examples of each label."""
    kept: dict[Example, None] = {}
    for desirable, fraction in fractions.items():
        found = [example for example in examples if example.desirable is desirable]
        sources = [example.response.source for example in found]
        drawn = _drawn(sources, fraction, random.Random(f"kept-{desirable}-{seed}"))
        kept |= dict.fromkeys(found[number] for number in drawn)
    return kept


def _only(
    shown: Sequence[tuple[int, tuple[Example, ...]]], left: Container[Example], *, in_pairs: bool
) -> list[tuple[int, tuple[Example, ...]]]:
    """Units with the examples that are left, or pairs of which both are; those with none are not shown."""
    found = []
    for number, unit in shown:
        kept = tuple(example for example in unit if example in left)
        if kept and (len(kept) == len(unit) or not in_pairs):
            found.append((number, kept))
    return found


def _replace_completions(
    units: list[tuple[Example, ...]], best: Callable[[Sequence[Response]], Sequence[str]]
) -> list[tuple[Example, ...]]:
    completions = iter(best([example.response for unit in units for example in unit]))
    return [
        tuple(
            example._replace(response=_with_completion(example.response, next(completions)))
            for example in unit
        )
        for unit in units
    ]


def _with_completion(row: Response, completion: str) -> Response:
    return response(row.prompt, completion, group_id=row.group_id, source=row.source)


def _shuffle_labels(
    units: list[tuple[Example, ...]], stream: random.Random, *, in_pairs: bool
) -> list[tuple[Example, ...]]:
    if in_pairs:
        flipped = [stream.random() < 0.5 for _ in units]
        return [
            tuple(Example(a.response, b.desirable) for a, b in zip(unit[::-1], unit, strict=True))
            if flip
            else unit
            for unit, flip in zip(units, flipped, strict=True)
        ]
    labels = [example.desirable for unit in units for example in unit]
    stream.shuffle(labels)
    shuffled = iter(labels)
    return [tuple(Example(example.response, next(shuffled)) for example in unit) for unit in units]


def _without_repeats(units: list[tuple[Example, ...]]) -> list[tuple[Example, ...]]:
    seen: set[tuple[str, str, bool]] = set()
    kept = []
    for unit in units:
        new = []
        for example in unit:
            key = (example.response.prompt_id, example.response.completion, example.desirable)
            if key not in seen:
                seen.add(key)
                new.append(example)
        kept.append(tuple(new))
    return kept


def derange(prompt_ids: Sequence[str], seed: int) -> list[int]:
    """Give each example the completion of another prompt, each completion used once.

    The examples are laid in a circle, those of one prompt side by side, prompts in random order; each takes
    the completion that lies as far ahead as the largest prompt is wide, and so never one of its own prompt.

    Args:
        prompt_ids: (N,) the prompt of each example.
        seed: of the order; one table serves all epochs.

    Returns:
        (N,) index of the example whose completion is taken.

    Raises:
        DataError: one prompt has more than half of the examples, so that not all can be mismatched.
    """
    stream = random.Random(f"derangement-{seed}")
    groups: dict[str, list[int]] = {}
    for index, prompt_id in enumerate(prompt_ids):
        groups.setdefault(prompt_id, []).append(index)
    members = list(groups.values())
    stream.shuffle(members)
    for group in members:
        stream.shuffle(group)
    widest = max(len(group) for group in members)
    if 2 * widest > len(prompt_ids):
        raise DataError(
            f"one prompt has {widest} of {len(prompt_ids)} examples, so z0 has no mismatched completions "
            "for it; use more prompts, or a loss without z0"
        )
    circle = [index for group in members for index in group]
    partner = [0] * len(circle)
    for position, index in enumerate(circle):
        partner[index] = circle[(position + widest) % len(circle)]
    return partner
