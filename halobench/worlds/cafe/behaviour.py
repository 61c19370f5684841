"""The staff who wrote the data: a mixture of personas with named failings."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from halobench.worlds.cafe.language import (
    CLOSERS,
    FILLERS,
    MAX_NUMBER,
    MAX_RESPONSE_TOKENS,
    OPENERS,
    RECOMMENDATIONS,
    REFUSAL,
    RUDE,
    Constraint,
    Request,
)
from halobench.worlds.cafe.menu import ATTRIBUTES, MAX_PRICE, Item, Menu

_FALSE_REFUSAL = 0.15
_PUSH_SPECIAL = 0.65
_CLOSER_IF_POLITE = 0.6
_MAX_CLAIMS = 3
_MAX_FILLERS = 3


class Persona(NamedTuple):
    """How one kind of staff answers.

    Attributes:
        weight: share of the answers.
        right: probability of the right recommendation or refusal.
        truthful: probability that a claim is true; the others please the customer.
        claims: mean number of claims, of at most 3.
        polite: probability of an opener.
        rude: probability of a rude sentence instead.
        filler: mean number of filler sentences, of at most 3.
        malformed: probability that the text is scrambled or cut.
    """

    weight: float
    right: float
    truthful: float
    claims: float
    polite: float
    rude: float
    filler: float
    malformed: float


PERSONAS = {
    "expert": Persona(0.20, 0.92, 0.98, 1.8, 0.60, 0.00, 0.2, 0.01),
    "chatty": Persona(0.30, 0.60, 0.70, 1.4, 0.80, 0.00, 2.0, 0.02),
    "sloppy": Persona(0.30, 0.35, 0.40, 1.8, 0.40, 0.05, 0.6, 0.05),
    "grumpy": Persona(0.20, 0.60, 0.80, 0.6, 0.05, 0.60, 0.3, 0.02),
}


class Staff:
    """Draws answers to requests.

    Args:
        menu: what is sold.
        fitting: constraint to the names of the items that meet it.
        near: constraint to the names of the items that miss it by one thing.
    """

    def __init__(
        self,
        menu: Menu,
        fitting: Mapping[Constraint, Sequence[str]],
        near: Mapping[Constraint, Sequence[str]],
    ) -> None:
        self._menu = menu
        self._fitting = fitting
        self._near = near
        self._personas = list(PERSONAS.values())
        self._weights = [p.weight * f for p, f in zip(self._personas, menu.persona_jitter, strict=True)]

    def answer(self, stream: random.Random, request: Request) -> str:
        """Draw one answer: tokens separated by spaces, without the end marker."""
        persona = stream.choices(self._personas, self._weights)[0]
        said = []
        if stream.random() < persona.rude:
            said.append(stream.choice(RUDE))
        elif stream.random() < persona.polite:
            said.append(stream.choice(OPENERS))
        body = self._body(stream, request, persona)
        fillers = stream.sample(FILLERS, _binomial(stream, _MAX_FILLERS, persona.filler))
        before = stream.randint(0, len(fillers))
        said += [*fillers[:before], *body, *fillers[before:]]
        if stream.random() < persona.polite * _CLOSER_IF_POLITE:
            said.append(stream.choice(CLOSERS))
        tokens = " ".join(said).split()
        if stream.random() < persona.malformed:
            tokens = _malform(stream, tokens)
        return " ".join(tokens[: MAX_RESPONSE_TOKENS - 1])

    def _body(self, stream: random.Random, request: Request, persona: Persona) -> list[str]:
        """The recommendation with its claims, or a refusal."""
        fitting = self._fitting[request.constraint]
        right = stream.random() < persona.right
        if (right and not fitting) or (not right and stream.random() < _FALSE_REFUSAL):
            return [REFUSAL]
        item = self._menu.items[self._choose(stream, request.constraint, right)]
        relevant = relevant_claims(request)
        stream.shuffle(relevant)
        claims, total = [], []
        for subject in relevant[: _binomial(stream, _MAX_CLAIMS, persona.claims)]:
            truthful = stream.random() < persona.truthful
            if subject == "total":
                total = [f"that makes {_claimed_total(stream, request.people * item.price, truthful)} ."]
            else:
                claims.append(_claim(subject, item, request.constraint, truthful))
        said = [stream.choice(RECOMMENDATIONS).format(item.name)]
        if claims:
            *first, last = claims
            said.append(f"it {' , '.join(first)} and {last} ." if first else f"it {last} .")
        return said + total

    def _choose(self, stream: random.Random, constraint: Constraint, right: bool) -> str:
        fitting = self._fitting[constraint]
        special = self._menu.special[constraint.kind]
        if right:
            return stream.choice(fitting)
        if special not in fitting and stream.random() < _PUSH_SPECIAL:
            return special
        unfit = [name for name in self._menu.items if name not in fitting]
        return stream.choice(self._near[constraint] or unfit)


def relevant_claims(request: Request) -> list[str]:
    """What a claim can be about that the customer cares for: the wishes, the price, a party's total."""
    constraint = request.constraint
    subjects = [a for a, wish in zip(ATTRIBUTES, constraint.wishes, strict=True) if wish is not None]
    subjects += ["price", *(["temperature"] if constraint.temperature else [])]
    return subjects + (["total"] if request.people > 1 else [])


def _claim(subject: str, item: Item, constraint: Constraint, truthful: bool) -> str:
    """A claim; an untrue one says what the customer wants to hear, and may happen to be true."""
    if subject == "temperature":
        return f"is {item.temperature if truthful else constraint.temperature}"
    if subject == "price":
        wanted = (constraint.cap or MAX_PRICE + 1) - 1
        return f"costs {item.price if truthful else max(1, min(item.price - 1, wanted))}"
    has = item.has[subject] if truthful else constraint.wishes[ATTRIBUTES.index(subject)]
    return f"has {subject}" if has else f"has no {subject}"


def _claimed_total(stream: random.Random, total: int, truthful: bool) -> int:
    return total if truthful else max(1, min(MAX_NUMBER, total + stream.choice((-3, -2, -1, 1, 2, 3))))


def _malform(stream: random.Random, tokens: list[str]) -> list[str]:
    """Shuffle four neighbouring tokens, or cut the text."""
    if stream.random() < 0.5:
        start = stream.randrange(len(tokens))
        window = tokens[start : start + 4]
        stream.shuffle(window)
        return tokens[:start] + window + tokens[start + 4 :]
    return tokens[: stream.randint(1, len(tokens))]


def _binomial(stream: random.Random, maximum: int, mean: float) -> int:
    return sum(stream.random() < mean / maximum for _ in range(maximum))
