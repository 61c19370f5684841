"""Pairs from scored answers."""

from collections import Counter

import pytest

from halobench.data.pairing import TIE, pair_up
from halobench.feedback import Message, response

PROMPT = (Message("user", "q"),)


def answers(**scores):
    return [response(PROMPT, name, group_id="g", source="s", score=score) for name, score in scores.items()]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("adjacent", ["ab", "bc", "cd"]),
        ("all", ["ab", "ac", "ad", "bc", "bd", "cd"]),
        ("best_vs_worst", ["ad"]),
        ("best_vs_rest", ["ab", "ac", "ad"]),
    ],
)
def test_the_better_answer_comes_first(rule, expected):
    drops = Counter()
    pairs = pair_up(answers(c=2, a=4, d=-1, b=3.5), rule, drops)
    assert [better.completion + worse.completion for better, worse in pairs] == expected
    assert not drops


@pytest.mark.parametrize(
    ("rule", "expected", "ties"),
    [
        ("adjacent", ["bc"], 1),
        ("all", ["ac", "bc"], 1),
        ("best_vs_worst", ["ac"], 0),
        ("best_vs_rest", ["ac"], 1),
    ],
)
def test_answers_of_one_score_are_no_pair(rule, expected, ties):
    drops = Counter()
    pairs = pair_up(answers(a=2, b=2, c=1), rule, drops)
    assert [better.completion + worse.completion for better, worse in pairs] == expected
    assert drops == ({TIE: ties} if ties else {})


@pytest.mark.parametrize("rule", ["adjacent", "all", "best_vs_worst", "best_vs_rest"])
def test_one_answer_is_no_pair(rule):
    assert pair_up(answers(a=1), rule, Counter()) == []
