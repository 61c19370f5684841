"""Compact letter display: rows share a letter if and only if they are not established as different."""

from itertools import combinations

import numpy as np
import pytest

from halobench.leaderboard.letters import letters


@pytest.mark.parametrize(
    ("names", "separated", "expected"),
    [
        ("", [], {}),
        ("x", [], {"x": "a"}),
        ("xyz", [], {"x": "a", "y": "a", "z": "a"}),
        ("xyz", ["xy", "xz", "yz"], {"x": "a", "y": "b", "z": "c"}),
        # not transitive: x and z differ, y differs from neither
        ("xyz", ["xz"], {"x": "a", "y": "ab", "z": "b"}),
        ("xyz", ["zx"], {"x": "a", "y": "ab", "z": "b"}),
        # neighbours up to two places away are alike: groups 123, 234, 345
        ("12345", ["14", "15", "25"], {"1": "a", "2": "ab", "3": "abc", "4": "bc", "5": "c"}),
        # the worst differs from all but the middle one: groups wxy and yz; none without a partner of its own
        ("wxyz", ["wz", "xz"], {"w": "a", "x": "a", "y": "ab", "z": "b"}),
        # a ring: each differs from the one opposite; four groups of two
        ("wxyz", ["wy", "xz"], {"w": "ab", "x": "ac", "y": "cd", "z": "bd"}),
    ],
)
def test_letters_of_hand_worked_examples(names, separated, expected):
    assert letters(list(names), [tuple(pair) for pair in separated]) == expected


@pytest.mark.parametrize("seed", range(20))
def test_two_rows_share_a_letter_if_and_only_if_they_are_not_separated(seed):
    stream = np.random.default_rng(seed)
    names = [f"row {index}" for index in range(9)]
    separated = {pair for pair in combinations(names, 2) if stream.random() < 0.4}
    found = letters(names, sorted(separated))
    for pair in combinations(names, 2):
        shared = set(found[pair[0]]) & set(found[pair[1]])
        assert bool(shared) == (pair not in separated)


def test_no_letter_says_what_another_one_says():
    names = list("uvwxyz")
    found = letters(names, [("u", "x"), ("u", "y"), ("v", "y"), ("w", "z")])
    groups = [
        frozenset(n for n in names if letter in found[n]) for letter in sorted(set("".join(found.values())))
    ]
    assert not any(first < second for first in groups for second in groups)
    assert len(set(groups)) == len(groups)


def test_letters_go_on_after_z():
    names = [f"{index:02}" for index in range(28)]
    found = letters(names, combinations(names, 2))
    assert [found["00"], found["25"], found["26"], found["27"]] == ["a", "z", "a2", "b2"]
