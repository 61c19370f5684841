"""What pre-training teaches beside dialogue - sorting, picking, facts - and the probes that ask for it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from halobench.worlds.base import Document, Probe
from halobench.worlds.cafe.language import Constraint, Split, draw_request, split_of
from halobench.worlds.cafe.menu import ATTRIBUTES, KINDS, MAX_PRICE, TEMPERATURES, Item, Menu

NUM_PROBES = {"sort": 240, "pick": 400, "facts": 288}
_NUM_WRONG = 3


class Skills:
    """Draws documents and probes; `sort` and `pick` are held out, `facts` asks for what was taught.

    Args:
        menu: what the facts are about.
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

    def document(self, stream: random.Random, skill: str) -> Document:
        """Draw a training document of a skill."""
        match skill:
            case "sort":
                digits = _draw_digits(stream, "train")
                return Document(f"{_sort_context(digits)} {' '.join(sorted(digits))}", skill)
            case "pick":
                constraint = draw_request(stream, "train").constraint
                answer = stream.choice(self._fitting[constraint] or ("nothing",))
                return Document(f"{_pick_context(constraint)} {answer}", skill)
            case _:
                item = stream.choice(list(self._menu.items.values()))
                context, answer = stream.choice(_facts(item))
                return Document(f"{context} {answer}", skill)

    def probes(self, skill: str, split: Split) -> list[Probe]:
        """Return the questions about a skill; they depend on the menu only."""
        stream = random.Random(f"cafe-probes-{skill}-{split}")
        match skill:
            case "sort":
                probes = self._sort_probes(stream, split)
            case "pick":
                probes = self._pick_probes(stream, split)
            case _:
                probes = self._fact_probes()
                stream.shuffle(probes)
        return probes[: NUM_PROBES[skill]]

    def _sort_probes(self, stream: random.Random, split: Split) -> list[Probe]:
        probes: dict[str, Probe] = {}
        while len(probes) < NUM_PROBES["sort"]:
            digits = _draw_digits(stream, split)
            right = " ".join(sorted(digits))
            wrong: dict[str, None] = {}
            while len(wrong) < _NUM_WRONG:
                answer = sorted(digits)
                if stream.random() < 0.5:
                    stream.shuffle(answer)
                else:
                    answer[stream.randrange(len(answer))] = str(stream.randrange(10))
                if " ".join(answer) != right:
                    wrong[" ".join(answer)] = None
            probes[_sort_context(digits)] = Probe(_sort_context(digits), (right, *wrong))
        return list(probes.values())

    def _pick_probes(self, stream: random.Random, split: Split) -> list[Probe]:
        constraints = [
            c
            for c in self._fitting
            if c.split == split and self._fitting[c] and len(self._near[c]) >= _NUM_WRONG
        ]
        # rarely asked constraints are long and odd: ask what customers ask, each once
        constraints.sort(key=lambda c: (-c.weight, stream.random()))
        return [
            Probe(
                _pick_context(c), (stream.choice(self._fitting[c]), *stream.sample(self._near[c], _NUM_WRONG))
            )
            for c in constraints[: NUM_PROBES["pick"]]
        ]

    def _fact_probes(self) -> list[Probe]:
        probes = []
        for item in self._menu.items.values():
            prices = [f"{price} ." for price in range(1, MAX_PRICE + 1) if price != item.price]
            probes.append(Probe(f"fact : {item.name} costs", (f"{item.price} .", *prices)))
            right = f"{item.temperature} {item.kind} ."
            others = [f"{t} {k} ." for t in TEMPERATURES for k in KINDS if f"{t} {k} ." != right]
            probes.append(Probe(f"fact : {item.name} is a", (right, *others)))
            for attribute in ATTRIBUTES:
                answers = (f"{attribute} .", f"no {attribute} .")
                probes.append(
                    Probe(f"fact : {item.name} has", answers if item.has[attribute] else answers[::-1])
                )
        return probes


def _facts(item: Item) -> list[tuple[str, str]]:
    """(context, answer) of every fact about an item: attributes are asked for as often as price and kind."""
    has = [("has" if item.has[a] else "has no", a) for a in ATTRIBUTES]
    facts = [("costs", f"{item.price} ."), ("is a", f"{item.temperature} {item.kind} .")]
    facts += [(verb, f"{attribute} .") for verb, attribute in has]
    return [(f"fact : {item.name} {verb}", answer) for verb, answer in facts]


def _sort_context(digits: Sequence[str]) -> str:
    return f"sort : {' '.join(digits)} ="


def _pick_context(constraint: Constraint) -> str:
    return f"pick : {constraint.text} ="


def _draw_digits(stream: random.Random, split: Split) -> tuple[str, ...]:
    """Three or four distinct digits in an order that is on the given side of the partition."""
    while True:
        digits = tuple(str(d) for d in stream.sample(range(10), stream.randint(3, 4)))
        if split_of(("sort", digits)) == split:
            return digits
