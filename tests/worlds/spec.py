"""The cafe's specification (shared/world.md, section 2 and what was decided after it) in plain Python."""

import hashlib
import itertools

ATTRIBUTES = ("milk", "nuts", "sugar", "spice")
# The key space: 2 kinds x 3 temperatures x 3^4 wishes x 7 caps.
KEYS = list(
    itertools.product(
        ("drink", "snack"),
        ("hot", "cold", None),
        itertools.product((None, True, False), repeat=4),
        (None, 3, 4, 5, 6, 7, 8),
    )
)


def side(key):
    """First byte of md5(repr(key)) mod 10: 0 and 1 test, 2 dev, 3 to 9 train."""
    bucket = hashlib.md5(repr(key).encode()).digest()[0] % 10
    return {0: "test", 1: "test", 2: "dev"}.get(bucket, "train")


def wording(key):
    """A constraint as customers and `pick` documents write it."""
    kind, temperature, wishes, cap = key
    words = f"{temperature} {kind}" if temperature else kind
    for name, wish in zip(ATTRIBUTES, wishes, strict=True):
        words += {None: "", True: f" , with {name}", False: f" , no {name}"}[wish]
    return words + (f" , under {cap}" if cap else "")


def misses(item, key):
    """How many of the things that were asked for an item does not meet."""
    kind, temperature, wishes, cap = key
    return (
        (item.kind != kind)
        + (temperature not in (None, item.temperature))
        + sum(w not in (None, item.has[a]) for a, w in zip(ATTRIBUTES, wishes, strict=True))
        + (cap is not None and item.price >= cap)
    )


def probability(key):
    """Kind and temperature uniform; a wish absent .7, with .1, no .2; the cap absent 2/8, else 1/8 each."""
    _, _, wishes, cap = key
    chance = 1 / 2 / 3 * (2 / 8 if cap is None else 1 / 8)
    for wish in wishes:
        chance *= {None: 0.7, True: 0.1, False: 0.2}[wish]
    return chance
