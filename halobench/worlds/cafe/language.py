"""The cafe's language: what customers ask, what staff can say, and how both are told apart."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator
from typing import Literal, NamedTuple

from halobench.worlds.cafe.menu import ATTRIBUTES, KINDS, MAX_PRICE, NAMES, TEMPERATURES, Item

Split = Literal["train", "dev", "test"]

SPECIALS = ("<pad>", "<bos>", "<eos>", "<user>", "<bot>", "<good>", "<bad>")
END = "<eos>"
OPENERS = ("sure !", "of course !", "hello !")
CLOSERS = ("enjoy !", "happy to help !")
RUDE = ("ugh .", "whatever .", "what now ?")
FILLERS = (
    "life is good , really .",
    "well , this is not easy .",
    "many people ask that .",
    "we love what we do .",
)
REFUSAL = "sorry , we have nothing like that ."
RECOMMENDATIONS = ("try the {} .", "i suggest the {} .", "how about the {} ?")
GREETINGS = ("a", "hi , a", "please , a", "i need a")
CAPS = (None, None, 3, 4, 5, 6, 7, 8)
PARTY_SIZES = (1, 1, 2, 3)
MAX_NUMBER = MAX_PRICE * max(PARTY_SIZES)
SENTENCE_ENDS = frozenset(".!?")
MAX_RESPONSE_TOKENS = 36  # the end marker included
_WISHES = {None: 0.7, True: 0.1, False: 0.2}


class Constraint(NamedTuple):
    """What an item must satisfy; the unit that is held out.

    Attributes:
        kind: "drink" or "snack".
        temperature: "hot", "cold" or None.
        wishes: for each attribute: True with, False without, None not mentioned.
        cap: the price must be lower, or None.
    """

    kind: str
    temperature: str | None
    wishes: tuple[bool | None, ...]
    cap: int | None

    @property
    def text(self) -> str:
        """How a constraint is written in prompts and `pick` documents; distinct constraints differ."""
        words = [*([self.temperature] if self.temperature else []), self.kind]
        for attribute, wish in zip(ATTRIBUTES, self.wishes, strict=True):
            if wish is not None:
                words += [",", "with" if wish else "no", attribute]
        return " ".join(words + ([",", "under", str(self.cap)] if self.cap else []))

    @property
    def split(self) -> Split:
        """The side of the partition it is on: two tenths test, one tenth dev, the rest train."""
        return split_of((self.kind, self.temperature, self.wishes, self.cap))

    @property
    def weight(self) -> float:
        """Its probability among the customers' constraints."""
        weight = 1 / len(KINDS) / (len(TEMPERATURES) + 1) * CAPS.count(self.cap) / len(CAPS)
        for wish in self.wishes:
            weight *= _WISHES[wish]
        return weight

    def checks(self, item: Item) -> list[bool]:
        """Whether `item` meets each thing asked for, the kind first."""
        met = [item.kind == self.kind]
        if self.temperature:
            met.append(item.temperature == self.temperature)
        for attribute, wish in zip(ATTRIBUTES, self.wishes, strict=True):
            if wish is not None:
                met.append(item.has[attribute] == wish)
        if self.cap:
            met.append(item.price < self.cap)
        return met


class Request(NamedTuple):
    """What a customer asks for.

    Attributes:
        constraint: what the item must satisfy.
        people: for how many, 1 to 3.
        greeting: how the sentence begins; it means nothing.
    """

    constraint: Constraint
    people: int
    greeting: str

    @property
    def text(self) -> str:
        """The prompt."""
        party = f" , for {self.people}" if self.people > 1 else ""
        return f"{self.greeting} {self.constraint.text}{party} ."


def split_of(key: object) -> Split:
    """Assign a key to a split by its digest, so that the partition depends on nothing else."""
    bucket = hashlib.md5(repr(key).encode(), usedforsecurity=False).digest()[0] % 10
    return "test" if bucket <= 1 else "dev" if bucket == 2 else "train"


def all_constraints() -> Iterator[Constraint]:
    """Yield the whole space of constraints in a fixed order."""
    wishes = itertools.product(_WISHES, repeat=len(ATTRIBUTES))
    temperatures = (*TEMPERATURES, None)
    for kind, temperature, wish, cap in itertools.product(
        KINDS, temperatures, list(wishes), dict.fromkeys(CAPS)
    ):
        yield Constraint(kind, temperature, wish, cap)


def draw_request(stream: random.Random, split: Split) -> Request:
    """Draw a customer's request whose constraint is on the given side of the partition."""
    while True:
        constraint = Constraint(
            kind=stream.choice(KINDS),
            temperature=stream.choice((*TEMPERATURES, None)),
            wishes=tuple(stream.choices(list(_WISHES), list(_WISHES.values()), k=len(ATTRIBUTES))),
            cap=stream.choice(CAPS),
        )
        people = stream.choice(PARTY_SIZES)
        if constraint.split == split:
            return Request(constraint, people, stream.choice(GREETINGS))


def parse_request(text: str) -> Request | None:
    """Read a prompt back into the request it was made from, or None if it is not one."""
    greeting = max((g for g in GREETINGS if text.startswith(f"{g} ")), key=len, default=None)
    if greeting is None or not text.endswith(" ."):
        return None
    head, *clauses = text[len(greeting) + 1 : -2].split(" , ")
    *rest, kind = head.split(" ")
    temperature = rest[0] if rest else None
    if len(rest) > 1 or kind not in KINDS or temperature not in (None, *TEMPERATURES):
        return None
    wishes: dict[str, bool] = {}
    cap = None
    people = 1
    for clause in clauses:
        match clause.split():
            case ["with", attribute]:
                wishes[attribute] = True
            case ["no", attribute]:
                wishes[attribute] = False
            case ["under", price] if price in NUMBERS:
                cap = NUMBERS[price]
            case ["for", number] if number in NUMBERS:
                people = NUMBERS[number]
            case _:
                return None
    if cap not in CAPS or people not in PARTY_SIZES:
        return None
    constraint = Constraint(kind, temperature, tuple(wishes.get(a) for a in ATTRIBUTES), cap)
    request = Request(constraint, people, greeting)
    return request if request.text == text else None  # every other spelling is not of this language


def sentences(tokens: list[str]) -> Iterator[str]:
    """Split tokens into sentences; a last one that was not finished is yielded too, without its mark."""
    start = 0
    for position, token in enumerate(tokens, start=1):
        if token in SENTENCE_ENDS:
            yield " ".join(tokens[start:position])
            start = position
    if start < len(tokens):
        yield " ".join(tokens[start:])


NUMBERS = {str(number): number for number in range(MAX_NUMBER + 1)}


def vocabulary() -> list[str]:
    """Return every token: the special ones first, then the words in order."""
    phrases = [*OPENERS, *CLOSERS, *RUDE, *FILLERS, REFUSAL, *RECOMMENDATIONS, *GREETINGS]
    words = {word for phrase in phrases for word in phrase.split()} - {"{}"}
    words |= {*NUMBERS, *ATTRIBUTES, *KINDS, *TEMPERATURES, *NAMES["drink"], *NAMES["snack"]}
    words |= {*"with no under for it is has costs and that makes".split()}
    words |= {*"sort pick fact nothing : =".split()}
    return [*SPECIALS, *sorted(words)]
