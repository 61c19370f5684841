"""The canonical tables of feedback and the fingerprint that proves that two runs saw the same."""

import random
from dataclasses import replace

import pytest

from halobench.feedback import EvaluationPrompt, Feedback, Label, Message, Pair, PromptSet, response


def answer(question, text, score=None, **keys):
    return response((Message("user", question),), text, group_id=question, source="test", score=score, **keys)


GOOD, BAD, FAIR = answer("q", "good", 2.0), answer("q", "bad", -1.5), answer("q", "fair")
OTHER = answer("p", "good")


def pairs():
    return Feedback.from_pairs([(GOOD, BAD), (GOOD, FAIR), (FAIR, BAD)], drops={"b": 2, "a": 1})


def test_ids_tell_prompts_and_responses_apart():
    assert GOOD.prompt_id == BAD.prompt_id != OTHER.prompt_id
    assert len({row.response_id for row in (GOOD, BAD, FAIR, OTHER)}) == 4
    assert answer("q", "good", 7.0).response_id == GOOD.response_id
    turns = (Message("user", "q"), Message("assistant", "good"))
    assert response(turns, "good", group_id="q", source="test").prompt_id != GOOD.prompt_id
    assert (
        response((Message("system", "q"),), "good", group_id="q", source="test").prompt_id != GOOD.prompt_id
    )


def test_pairs_make_three_tables():
    feedback = pairs()
    assert list(feedback.responses.values()) == [GOOD, BAD, FAIR]
    assert all(key == row.response_id for key, row in feedback.responses.items())
    good, bad, fair = (row.response_id for row in (GOOD, BAD, FAIR))
    assert feedback.pairs == (
        Pair(GOOD.prompt_id, good, bad, 3.5),  # 2 - (-1.5)
        Pair(GOOD.prompt_id, good, fair, None),  # no score, no margin
        Pair(GOOD.prompt_id, fair, bad, None),
    )
    # each distinct (response, label) once; "fair" won once and lost once
    assert feedback.labels == (
        Label(good, True, "pair"),
        Label(bad, False, "pair"),
        Label(fair, False, "pair"),
        Label(fair, True, "pair"),
    )


def test_labels_make_two_tables():
    feedback = Feedback.from_labels([(GOOD, True), (OTHER, False), (GOOD, True), (GOOD, False)])
    assert list(feedback.responses.values()) == [GOOD, OTHER]
    assert feedback.pairs == ()
    assert [(row.response_id, row.desirable) for row in feedback.labels] == [
        (GOOD.response_id, True),
        (OTHER.response_id, False),
        (GOOD.response_id, False),
    ]
    assert {row.origin for row in feedback.labels} == {"native"}


def test_fingerprint_counts():
    fingerprint = pairs().fingerprint
    assert fingerprint.num_prompts == 1
    assert fingerprint.num_pairs == 3
    assert fingerprint.num_desirable == 2  # good, fair
    assert fingerprint.num_undesirable == 2  # bad, fair
    assert fingerprint.drops == {"a": 1, "b": 2}
    assert len(fingerprint.sha256) == 64


@pytest.mark.parametrize(
    "rows",
    [
        [(GOOD, BAD), (GOOD, FAIR)],
        [(GOOD, BAD), (GOOD, FAIR), (BAD, FAIR)],
        [(GOOD, FAIR), (GOOD, BAD), (FAIR, BAD)],
        [(GOOD._replace(score=2.5), BAD), (GOOD._replace(score=2.5), FAIR), (FAIR, BAD)],
        [(GOOD._replace(source="x"), BAD), (GOOD._replace(source="x"), FAIR), (FAIR, BAD)],
        [(GOOD._replace(group_id="x"), BAD), (GOOD._replace(group_id="x"), FAIR), (FAIR, BAD)],
        [(answer("q", "Good", 2.0), BAD), (answer("q", "Good", 2.0), FAIR), (FAIR, BAD)],
    ],
    ids=["fewer pairs", "a pair turned", "another order", "score", "source", "group", "completion"],
)
def test_fingerprint_changes_with_any_content(rows):
    assert Feedback.from_pairs(rows).fingerprint.sha256 != pairs().fingerprint.sha256


def test_fingerprint_changes_with_a_label():
    feedback = pairs()
    flipped = (feedback.labels[0]._replace(desirable=False), *feedback.labels[1:])
    native = (feedback.labels[0]._replace(origin="native"), *feedback.labels[1:])
    for labels in (flipped, native, feedback.labels[1:]):
        assert replace(feedback, labels=labels).fingerprint.sha256 != feedback.fingerprint.sha256


def test_fingerprint_does_not_change_with_the_order_of_a_dict():
    feedback = pairs()
    assert pairs().fingerprint == feedback.fingerprint
    assert replace(feedback, drops={"a": 1, "b": 2}).fingerprint == feedback.fingerprint
    rows = list(feedback.responses.items())
    random.Random(1).shuffle(rows)
    assert list(dict(rows)) != list(feedback.responses)
    assert replace(feedback, responses=dict(rows)).fingerprint == feedback.fingerprint


def test_digest_of_a_prompt_set_changes_with_any_content():
    row = EvaluationPrompt("q", "q", (Message("user", "q"),), ("good",), ("bad",))
    known = PromptSet((row,)).sha256
    assert PromptSet((row,)).sha256 == known
    for changed in (
        row._replace(prompt_id="p"),
        row._replace(prompt=(Message("user", "p"),)),
        row._replace(chosen=("fair",)),
        row._replace(rejected=("bad", "worse")),
    ):
        assert PromptSet((changed,)).sha256 != known
    assert PromptSet((row, row._replace(prompt_id="p"))).sha256 != known
