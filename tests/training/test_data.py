"""What the alignment trains on: control tokens, mismatched completions, shared log-probabilities."""

import pytest

from halobench.materials import Materials
from halobench.training.data import alignment_data
from tests.training.stages import recipe_of


def data_of(recipe, start):
    materials = Materials(recipe)
    tokens = materials.tokenizer.convert_tokens_to_ids(list(materials.loss.control_tokens))
    return alignment_data(materials, dict(zip((True, False), tokens, strict=False)), start)


@pytest.mark.parametrize("scored", [False, True])
def test_the_control_token_of_csft_ends_the_prompt_or_begins_the_completion(scored, tiny_recipe, start):
    recipe = recipe_of(tiny_recipe, "csft", f"loss.score_control={str(scored).lower()}")
    good, bad = Materials(recipe).tokenizer.convert_tokens_to_ids(["<good>", "<bad>"])
    rows = list(data_of(recipe, start).rows)
    assert {row.desirable for row in rows} == {True, False}
    for row in rows:
        control = row.completion[0] if scored else row.prompt[-1]
        assert control == (good if row.desirable else bad)
        assert [*row.prompt, *row.completion].count(control) == 1


def test_each_prompt_gets_the_completion_of_another_prompt_for_z0(tiny_recipe, start):
    data = data_of(recipe_of(tiny_recipe, "kto"), start)
    rows, swapped = list(data.rows), list(data.mismatched)
    assert [row.prompt for row in swapped] == [row.prompt for row in rows]
    assert sorted(row.completion for row in swapped) == sorted(row.completion for row in rows)
    assert all(new.completion != old.completion for new, old in zip(swapped, rows, strict=True))
    assert all(len(row.reference) == len(row.completion) for row in [*rows, *swapped])


@pytest.mark.parametrize("loss", ["dpo", "offline_ppo", "sft"])
def test_losses_without_z0_have_no_mismatched_completions(loss, tiny_recipe, start):
    assert data_of(recipe_of(tiny_recipe, loss), start).mismatched is None


def test_runs_under_other_labels_share_the_log_probabilities_of_the_reference(tiny_recipe, start, home):
    given, shuffled = (
        list(data_of(recipe_of(tiny_recipe, "dpo", setting), start).rows)
        for setting in ("data.labels=given", "data.labels=shuffled")
    )
    assert [row.completion for row in given] != [row.completion for row in shuffled]
    assert len(list(home.glob("reference/*/logps.npy"))) == 1
    known = {(row.prompt, row.completion): row.reference.tolist() for row in given}
    assert all(known[row.prompt, row.completion] == row.reference.tolist() for row in shuffled)
