"""Prompt sets are fixed: the same prompts for every seed, every world and whatever was drawn before."""

import pytest

from halobench.worlds.cafe import Cafe
from tests.worlds.spec import probability


@pytest.fixture(scope="module", params=[("test", 512), ("dev", 256)], ids=["test", "dev"])
def prompts(request, cafe):
    split, num_prompts = request.param
    rows = cafe.prompt_set(split).rows
    assert len(rows) == num_prompts
    return rows


def test_prompts_are_distinct_and_named_by_their_constraint(prompts):
    assert len({row.prompt_id for row in prompts}) == len(prompts)
    for row in prompts:
        [turn] = row.prompt
        assert turn.role == "user"
        assert f" {row.prompt_id} " in turn.content
        assert row.group_id == row.prompt_id


def test_each_prompt_has_16_labelled_pairs(prompts):
    for row in prompts:
        assert len(row.chosen) == len(row.rejected) == 16
        assert all(chosen != rejected for chosen, rejected in zip(row.chosen, row.rejected, strict=True))


def test_chosen_answers_are_better_in_truth(prompts, cafe):
    def mean(side):
        utilities = [
            sum(cafe.utility(row.prompt, f"{text} <eos>").values()) for row in prompts for text in side(row)
        ]
        return sum(utilities) / len(utilities)

    # by about 1.8, as in the training pairs
    assert 1.5 < mean(lambda row: row.chosen) - mean(lambda row: row.rejected) < 2.1


def test_what_is_asked_often_comes_early(cafe):
    # drawn by the natural distribution without replacement: the first half is the likelier one
    chances = [_probability(row.prompt_id) for row in cafe.prompt_set("test").rows]
    assert sum(chances[:256]) > 3 * sum(chances[256:])


def _probability(text):
    words = text.split(" , ")
    wishes = [True] * sum(w.startswith("with") for w in words) + [False] * sum(
        w.startswith("no") for w in words
    )
    cap = next((int(w.split()[1]) for w in words if w.startswith("under")), None)
    return probability((None, None, (*wishes, *[None] * (4 - len(wishes))), cap))


def test_prompt_sets_do_not_depend_on_what_was_drawn_before(cafe):
    other = Cafe(0)
    other.feedback(num_pairs=20, split_seed=3)
    other.documents(20, seed=3)
    other.prompt_set("test")
    row = cafe.prompt_set("dev").rows[0]
    other.best_of([row.prompt], 4, seed=3)
    assert other.prompt_set("dev").sha256 == cafe.prompt_set("dev").sha256


def test_prompts_do_not_depend_on_the_world_but_their_answers_do(cafe):
    mine, theirs = (world.prompt_set("dev").rows for world in (cafe, Cafe(1)))
    assert [row.prompt for row in mine] == [row.prompt for row in theirs]
    assert all(a.chosen != b.chosen for a, b in zip(mine, theirs, strict=True))
