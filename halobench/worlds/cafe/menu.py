"""The catalogue of the cafe: items with their attributes, drawn from the world seed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

ATTRIBUTES = ("milk", "nuts", "sugar", "spice")
KINDS = ("drink", "snack")
TEMPERATURES = ("hot", "cold")
MAX_PRICE = 9
NAMES = {
    "drink": (
        "mocha latte espresso chai cocoa tea cider broth horchata lemonade cola water juice smoothie shake "
        "frappe lassi kombucha matcha nectar punch toddy malt float tonic soda mead spritz cordial kefir "
        "ayran brew"
    ).split(),
    "snack": (
        "bagel toast pizza waffle crepe soup chowder satay korma samosa churro dumpling salad slaw yogurt "
        "cheese sundae gelato sorbet trifle granola halva brittle pesto sushi taco nacho muffin scone tart "
        "quiche pretzel"
    ).split(),
}
_ITEMS_PER_KIND = 24
_SHARE_WITH_ATTRIBUTE = 0.35
_WEIGHT_JITTER = 0.1

V = TypeVar("V")


class Item(NamedTuple):
    """Something the cafe sells.

    Attributes:
        name: one word.
        kind: "drink" or "snack".
        temperature: "hot" or "cold".
        has: for each attribute, whether the item has it.
        price: 1 to 9.
    """

    name: str
    kind: str
    temperature: str
    has: Mapping[str, bool]
    price: int


@dataclass(frozen=True)
class Menu:
    """What one cafe sells and pushes.

    Attributes:
        items: name to item.
        special: for each kind, the item that sloppy staff recommend whatever is asked.
        persona_jitter: factors on the weights of the staff's personas.
    """

    items: Mapping[str, Item]
    special: Mapping[str, str]
    persona_jitter: tuple[float, ...]


def draw_menu(world_seed: int, attempt: int, num_personas: int) -> Menu:
    """Draw a menu: attributes and temperatures balanced within a kind, prices spread over 1 to 9.

    Args:
        world_seed: which world.
        attempt: number of earlier menus of this world that were refused.
        num_personas: number of personas whose weights are jittered.
    """
    stream = random.Random(f"cafe-{world_seed}-menu-{attempt}")
    items: dict[str, Item] = {}
    special = {}
    for kind in KINDS:
        names = stream.sample(NAMES[kind], _ITEMS_PER_KIND)
        temperatures = _balanced(stream, TEMPERATURES)
        prices = _balanced(stream, tuple(range(1, MAX_PRICE + 1)))
        columns = {}
        for attribute in ATTRIBUTES:
            count = round(_SHARE_WITH_ATTRIBUTE * _ITEMS_PER_KIND)
            columns[attribute] = [True] * count + [False] * (_ITEMS_PER_KIND - count)
            stream.shuffle(columns[attribute])
        for row, name in enumerate(names):
            has = {attribute: columns[attribute][row] for attribute in ATTRIBUTES}
            items[name] = Item(name, kind, temperatures[row], has, prices[row])
        # one that many constraints exclude, so that pushing it is an error more often than not
        special[kind] = stream.choice([name for name in names if sum(items[name].has.values()) >= 2])
    jitter = tuple(math.exp(stream.gauss(0, _WEIGHT_JITTER)) for _ in range(num_personas))
    return Menu(items, special, jitter)


def _balanced(stream: random.Random, values: tuple[V, ...]) -> list[V]:
    column = [values[row % len(values)] for row in range(_ITEMS_PER_KIND)]
    stream.shuffle(column)
    return column
