"""Thumbs from scored answers: the four rules, their ties, their margins, and the tables that follow."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from halobench.check.sources import open_source
from halobench.data.binarise import BETWEEN, CLOSE, CONSTANT, TIED, label_answers, quantile_cuts
from halobench.data.views import make_view
from halobench.errors import DataError
from halobench.feedback import Message, response
from halobench.sections import Binarise, Data

PROMPT = (Message("user", "q"),)
SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=12)


def answers(scores):
    return [
        response(PROMPT, f"{place}", group_id="g", source="s", score=score)
        for place, score in enumerate(scores)
    ]


def label(scores, **rule):
    """Score and thumb of each answer that gets one, and the drops."""
    drops, spec = Counter(), Binarise(**rule)
    found = answers(scores)
    labelled = label_answers(found, spec, quantile_cuts(found, spec), drops)
    return [(answer.score, up) for answer, up in labelled], {k: n for k, n in drops.items() if n}


@pytest.mark.parametrize(
    ("scores", "rule", "expected", "drops"),
    [
        ([4, 5, 6], {"rule": "threshold", "at": 5}, [(4, False), (5, True), (6, True)], {}),
        (
            [3, 4, 4.5, 5.5, 6],
            {"rule": "threshold", "at": 5, "margin": 1},
            [(3, False), (6, True)],
            {CLOSE: 3},  # 4 is not below 4
        ),
        ([7, 7], {"rule": "threshold", "at": 5}, [(7, True), (7, True)], {}),
        ([1, 2, 3], {"rule": "prompt_mean"}, [(1, False), (3, True)], {TIED: 1}),
        ([1, 2, 6], {"rule": "prompt_mean", "margin": 1.5}, [(1, False), (6, True)], {CLOSE: 1}),
        ([2, 2], {"rule": "prompt_mean"}, [], {TIED: 2}),
        ([2, 9, 1, 4], {"rule": "best_vs_worst"}, [(9, True), (1, False)], {BETWEEN: 2}),
        ([3, 3, 3], {"rule": "best_vs_worst"}, [], {CONSTANT: 3}),
        ([3], {"rule": "best_vs_worst"}, [], {CONSTANT: 1}),
        (
            range(8),
            {"rule": "quantile", "at": 0.25},
            [(0, False), (1, False), (6, True), (7, True)],
            {CLOSE: 4},
        ),
        (
            # the share is one answer, rounded up, and another has the same score
            [0, 0, 1, 2, 3, 4, 5, 5],
            {"rule": "quantile", "at": 0.1},
            [(0, False), (0, False), (5, True), (5, True)],
            {CLOSE: 4},
        ),
        ([1, 2, 3], {"rule": "quantile", "at": 0.5}, [(1, False), (3, True)], {CLOSE: 1}),
        ([1, 1, 1, 2], {"rule": "quantile", "at": 0.5}, [(2, True)], {CLOSE: 3}),
    ],
)
def test_what_a_rule_makes_of_scores(scores, rule, expected, drops):
    assert label(scores, **rule) == (expected, drops)


@given(SCORES, st.sampled_from(["threshold", "prompt_mean", "best_vs_worst", "quantile"]))
def test_every_answer_has_a_thumb_or_is_counted_and_better_ones_are_not_worse(scores, rule):
    at = {"threshold": 0, "quantile": 0.3}.get(rule)
    labelled, drops = label(scores, rule=rule, at=at)
    assert len(labelled) + sum(drops.values()) == len(scores)
    up, down = ([score for score, thumb in labelled if thumb is want] for want in (True, False))
    assert not up or not down or min(up) > max(down)


@given(SCORES, st.integers(0, 3), st.integers(0, 3))
def test_a_wider_margin_labels_a_part_of_what_a_narrower_one_does(scores, narrow, more):
    for rule in ({"rule": "threshold", "at": 0}, {"rule": "prompt_mean"}):
        wide, few = label(scores, **rule, margin=narrow + more)[0], label(scores, **rule, margin=narrow)[0]
        assert not Counter(wide) - Counter(few)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=30), st.floats(0.01, 0.5))
def test_a_share_is_at_least_that_large_unless_both_ends_meet(scores, at):
    labelled, _ = label(scores, rule="quantile", at=at)
    ranked = sorted(scores)
    num = -int(-(at * len(scores) - 1e-9) // 1)
    if ranked[num - 1] < ranked[-num]:
        thumbs = Counter(up for _, up in labelled)
        assert min(thumbs[True], thumbs[False]) >= num


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"rule": "threshold"}, "needs the score that parts the thumbs; add at"),
        ({"rule": "quantile"}, "needs a share greater than 0 and at most 0.5, and at = None"),
        ({"rule": "quantile", "at": 0.6}, "needs a share greater than 0 and at most 0.5, and at = 0.6"),
        ({"rule": "quantile", "at": 0}, "needs a share greater than 0 and at most 0.5, and at = 0"),
        ({"rule": "best_vs_worst", "at": 3}, "rule = 'best_vs_worst' asks for no at, and at = 3; drop it"),
        ({"rule": "prompt_mean", "at": 3}, "rule = 'prompt_mean' asks for no at, and at = 3; drop it"),
        ({"rule": "best_vs_worst", "margin": 1}, "rule = 'best_vs_worst' has no margin, and margin = 1"),
        ({"rule": "quantile", "at": 0.5, "margin": 1}, "rule = 'quantile' has no margin, and margin = 1"),
    ],
)
def test_what_a_rule_does_not_take_is_refused(rule, told):
    with pytest.raises(ValidationError, match=told):
        Binarise(**rule)


def rated(number):
    """Four answers to a prompt, scored by GPT-4: number mod 3 + 1, 2, 3 and 4."""
    aspects = ["instruction_following", "honesty", "truthfulness", "helpfulness"]
    return {
        "instruction": f"question {number}",
        "completions": [
            {
                "response": f"answer {place} to {number}",
                "annotations": {aspect: {"Rating": str(number % 3 + place)} for aspect in aspects},
            }
            for place in (1, 2, 3, 4)
        ],
    }


@pytest.fixture
def ratings(tmp_path):
    """90 train prompts and 9 test prompts with four scored answers each."""
    for split, numbers in (("train", range(90)), ("test", range(90, 99))):
        text = "".join(json.dumps(rated(number)) + "\n" for number in numbers)
        (tmp_path / f"{split}.jsonl").write_text(text)
    return str(tmp_path)


def opened(path, name="ultrafeedback_ratings", **rule):
    return open_source(Data(source=name, path=path, binarise=rule), 0)


def test_labels_follow_from_scores_and_there_are_no_pairs(ratings):
    source = opened(ratings, rule="threshold", at=4)
    feedback = source.feedback(num_pairs=None, split_seed=0)
    assert not source.has_pairs
    assert feedback.pairs == ()
    assert {label.origin for label in feedback.labels} == {"score"}
    for label_ in feedback.labels:
        assert label_.desirable is (feedback.responses[label_.response_id].score >= 4)
    assert len(feedback.labels) == 4 * feedback.fingerprint.num_prompts
    with pytest.raises(DataError, match="this loss needs pairs"):
        make_view(feedback, "Pairs")


@pytest.mark.parametrize(
    ("rule", "up", "down"),
    [
        # of 9 prompts 3 each have the scores 1-4, 2-5 and 3-6
        ({"rule": "threshold", "at": 4}, 3 * (1 + 2 + 3), 3 * (3 + 2 + 1)),
        ({"rule": "prompt_mean"}, 18, 18),
        ({"rule": "best_vs_worst"}, 9, 9),
    ],
)
def test_held_out_answers_are_labelled_by_the_same_rule(ratings, rule, up, down):
    rows = opened(ratings, **rule).prompt_set("test").rows
    assert sum(len(row.chosen) for row in rows) == up
    assert sum(len(row.rejected) for row in rows) == down


def test_held_out_answers_are_cut_where_the_train_answers_are(tmp_path):
    # all train answers score 1 to 4; the test answers 7 to 10 but for the first prompt's 1 to 4
    shift = {"train": lambda number: 3 * number, "test": lambda number: 3 * number + (6 if number % 2 else 0)}
    for split, numbers in (("train", range(40)), ("test", range(50, 54))):
        lines = []
        for number in numbers:
            row = rated(number)
            for place, completion in enumerate(row["completions"], start=1):
                for aspect in completion["annotations"].values():
                    aspect["Rating"] = str(place + (shift[split](number) - 3 * number))
            lines.append(json.dumps(row) + "\n")
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    source = opened(str(tmp_path), rule="quantile", at=0.25)
    by_prompt = {row.prompt[0].content: row for row in source.prompt_set("test").rows}
    # 50 and 52 have 1 to 4, of which 4 is up and 1 is down; 51 and 53 have 7 to 10, all up
    assert set(by_prompt) == {"question 50", "question 51", "question 52", "question 53"}
    assert len(by_prompt["question 51"].chosen) == len(by_prompt["question 53"].chosen) == 4
    assert by_prompt["question 51"].rejected == by_prompt["question 53"].rejected == ()
    assert by_prompt["question 50"].chosen == ("answer 4 to 50",)
    assert by_prompt["question 50"].rejected == ("answer 1 to 50",)
    train = source.feedback(num_pairs=None, split_seed=0)
    counts = Counter(label.desirable for label in train.labels)
    num_answers = counts[True] + counts[False] + train.drops[CLOSE]
    assert counts[True] == counts[False] == num_answers / 4


def test_another_rule_is_other_content(ratings):
    rules = [{"rule": "threshold", "at": at} for at in (3, 4)] + [{"rule": "prompt_mean"}]
    plain = open_source(Data(source="ultrafeedback_ratings", path=ratings), 0).content_id
    assert len({opened(ratings, **rule).content_id for rule in rules} | {plain}) == 4


def test_only_scored_answers_are_labelled_by_their_scores(ratings):
    with pytest.raises(DataError) as refused:
        opened(ratings, name="trl", rule="prompt_mean")
    assert refused.value.problems == (
        "data.binarise = 'prompt_mean': 'trl' has no several scored answers to label; drop it, or use one of "
        "helpsteer2, oasst, ultrafeedback_ratings",
    )


def test_real_ranks_make_labels(shared_data):
    # ../shared/data/README.md: 371 replies to 122 messages are ranked among others
    path = str(shared_data / "oasst" / "en_trees.jsonl")
    source = opened(path, name="oasst", rule="best_vs_worst")
    feedback = source.feedback(num_pairs=None, split_seed=0)
    held_out = [row for split in ("dev", "test") for row in source.prompt_set(split).rows]
    assert feedback.fingerprint.num_desirable == feedback.fingerprint.num_undesirable
    assert feedback.fingerprint.num_prompts + len(held_out) == 122
