"""Answers that are both desirable and undesirable, and annotators who contradict each other."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from halobench.check.sources import open_source
from halobench.data.views import make_view
from halobench.errors import DataError
from halobench.feedback import Feedback, Message, response
from halobench.sections import Data

UNPAIRED = ("Binary", "Conditional", "Demonstrations")


def answer(question, text):
    return response((Message("user", question),), text, group_id=question, source="test")


def from_texts(*pairs):
    """Pairs of one prompt, "ab" for a over b."""
    return Feedback.from_pairs([(answer("q", better), answer("q", worse)) for better, worse in pairs])


def shown(feedback, kind="Binary", **options):
    """Completion and label of everything shown, each as often as it is."""
    view = make_view(feedback, kind, **options)
    return Counter((row.response.completion, row.desirable) for row in view.examples)


def numbered(num_pairs):
    return Feedback.from_pairs(
        [(answer(f"q{n}", f"w{n}"), answer(f"q{n}", f"l{n}")) for n in range(num_pairs)]
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # b wins twice and loses once, c wins once and loses once, d loses once, a wins once
        ("keep", {("a", True), ("b", True), ("b", False), ("c", True), ("c", False), ("d", False)}),
        ("majority", {("a", True), ("b", True), ("d", False)}),
        ("drop", {("a", True), ("d", False)}),
    ],
)
@pytest.mark.parametrize("kind", UNPAIRED)
def test_what_is_shown_of_an_answer_that_is_both(kind, rule, expected):
    feedback = from_texts("ab", "bc", "bd", "cd")
    found = shown(feedback, kind, contradictions=rule)
    wanted = {(text, label) for text, label in expected if label or kind != "Demonstrations"}
    assert found == dict.fromkeys(wanted, 1)


@pytest.mark.parametrize("rule", ["keep", "majority", "drop"])
def test_pairs_are_never_settled(rule):
    feedback = from_texts("ab", "bc", "bd", "cd")
    assert make_view(feedback, "Pairs", contradictions=rule) == make_view(feedback, "Pairs")


def test_the_same_words_to_another_prompt_are_no_contradiction():
    rows = [(answer("q", "a"), answer("q", "b")), (answer("p", "b"), answer("p", "a"))]
    assert sum(shown(Feedback.from_pairs(rows), contradictions="drop").values()) == 4


def test_nothing_left_is_refused():
    with pytest.raises(DataError, match=r"data\.contradictions = 'drop' leaves nothing to train on"):
        make_view(from_texts("ab", "ba"), "Binary", contradictions="drop")


@given(st.lists(st.permutations("abcde").map(lambda texts: "".join(texts[:2])), min_size=1, max_size=30))
def test_settled_labels_are_a_part_of_all_and_contradict_nothing(pairs):
    feedback = from_texts("xy", *pairs)
    wins, losses = Counter(pair[0] for pair in pairs), Counter(pair[1] for pair in pairs)
    kept, majority, dropped = (
        set(shown(feedback, contradictions=rule)) for rule in ("keep", "majority", "drop")
    )
    assert dropped <= majority <= kept
    texts = {text for text, _ in kept}
    assert dropped == {(text, label) for text, label in kept if (text, not label) not in kept}
    assert {text for text, _ in majority} == {text for text in texts if wins[text] != losses[text]} | {
        "x",
        "y",
    }
    assert all(wins[text] > losses[text] for text, label in majority if label and text not in "xy")


def test_real_replies_in_the_middle_are_settled(shared_data):
    # ../shared/data/README.md: of 371 ranked replies 127 are both under adjacent pairing
    path = str(shared_data / "oasst" / "en_trees.jsonl")
    source = open_source(Data(source="oasst", path=path), 0)
    rows = [row for split in source.splits.values() for row in split]
    feedback = Feedback.from_pairs([(row.winner, row.loser) for row in rows])
    examples = list(make_view(feedback, "Binary").examples)
    assert len(examples) == 371 + 127
    assert len({row.response.response_id for row in examples}) == 371
    assert len(list(make_view(feedback, "Binary", contradictions="drop").examples)) == 371 - 127


@pytest.mark.parametrize(("share", "num_more"), [(0, 0), (0.2, 25), (0.45, 82), (0.5, 100)])
def test_so_many_annotations_contradict_another(share, num_more):
    # 25 of 125, 82 of 182 (81.8 rounded up) and 100 of 200
    views = {kind: make_view(numbered(100), kind, contradicting_share=share) for kind in ("Pairs", *UNPAIRED)}
    seconds = views["Pairs"].units
    assert {view.num_base_units for view in views.values()} == {100 + num_more}
    assert len(seconds) == 100 + num_more
    turned = {unit[0].response.completion[1:] for number, unit in seconds.items() if number >= 100}
    assert len(turned) == num_more
    for kind in ("Binary", "Conditional"):
        both = Counter(row.response.completion for row in views[kind].examples)
        assert {text for text, count in both.items() if count == 2} == {
            side + number for number in turned for side in "wl"
        }
    imitated = Counter(row.response.completion[0] for row in views["Demonstrations"].examples)
    assert imitated == {"w": 100, "l": num_more} if num_more else {"w": 100}
    for unit in seconds.values():
        assert [row.desirable for row in unit] == [True, False]


def test_a_smaller_share_of_contradiction_is_a_part_of_a_larger_one():
    def turned(share, seed=0):
        units = make_view(numbered(100), "Pairs", contradicting_share=share, seed=seed).units
        return {unit[0].response.completion for number, unit in units.items() if number >= 100}

    for smaller, larger in pairwise(turned(share) for share in (0.05, 0.1, 0.3, 0.49, 0.5)):
        assert smaller < larger
    assert turned(0.2) != turned(0.2, seed=1)


def test_the_second_annotation_contradicts_the_first_one_be_it_wrong_or_not():
    view = make_view(numbered(50), "Pairs", label_noise=0.3, contradicting_share=0.5)
    firsts, seconds = (
        [tuple(row.response.completion for row in view.units[number]) for number in range(start, start + 50)]
        for start in (0, 50)
    )
    assert [pair[::-1] for pair in firsts] == seconds
    assert sum(better.startswith("l") for better, _ in firsts) == 15


def test_a_majority_settles_what_annotators_contradict():
    feedback = numbered(60)
    # every pair has one annotation either way, so there is no majority; with fewer, the others are left
    found = shown(feedback, contradicting_share=0.25, contradictions="majority")
    assert sum(found.values()) == 2 * (60 - 20)
    assert all(text.startswith("w") is label for text, label in found)


def test_single_labels_are_contradicted_too():
    feedback = Feedback.from_labels([(answer(f"q{n}", "a"), n < 20) for n in range(40)])
    view = make_view(feedback, "Binary", contradicting_share=0.2)
    assert Counter(row.desirable for number, [row] in view.units.items() if number < 40) == {
        True: 20,
        False: 20,
    }
    assert len(view.units) == 50


@pytest.mark.parametrize("share", [-0.1, 0.6])
def test_a_minority_is_at_most_half(share):
    with pytest.raises(ValidationError):
        Data(source="cafe", contradicting_share=share)
