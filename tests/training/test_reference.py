"""The reference is the SFT model unless the recipe says otherwise: what is then trained, named, refused."""

import json
import math
from importlib import import_module

import pytest
import torch
from torch.nn.functional import logsigmoid

from halobench import RecipeError
from halobench.materials import Materials
from halobench.models.load import load_model, new_model, save_model
from halobench.results.store import Store
from halobench.run import execute
from halobench.scoring.base import Scorer, ScoringResult, make_rows
from halobench.sections import Model
from halobench.stages import policy_path, stages_of
from halobench.training.data import alignment_data
from tests.models.tiny import logps_by_hand, tiny_llama, tiny_tokenizer
from tests.training.stages import WIDTH_16, align, curves, recipe_of


@pytest.fixture
def other(tiny_recipe, tmp_path):
    """Folder of another model of the world's language."""
    tokenizer = Materials(recipe_of(tiny_recipe, "dpo")).tokenizer
    model = new_model(Model(architecture=WIDTH_16), tokenizer, seed=7)
    save_model(tmp_path / "other", model, tokenizer)
    return tmp_path / "other"


def test_the_loss_is_measured_against_the_reference_and_not_against_the_start(
    tiny_recipe, start, other, tmp_path
):
    recipe = recipe_of(tiny_recipe, "dpo", f"reference={other}")
    found = curves(align(recipe, start, tmp_path / "out", reference=other))
    first = found[(found["metric"] == "loss") & (found["step"] == 1)]["value"].item()

    materials = Materials(recipe)
    data = alignment_data(materials, {}, start)
    policy, reference = (load_model(folder).double() for folder in (start, other))
    losses = []
    for unit in data.plan[0]:
        chosen, rejected = (
            float((logps_by_hand(policy, row) - logps_by_hand(reference, row)).sum().detach())
            for row in map(data.rows.__getitem__, data.units[unit])
        )
        losses.append(-float(logsigmoid(torch.tensor(materials.loss.beta * (chosen - rejected)))))
    assert first == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert abs(first - math.log(2)) > 0.01


def test_without_another_reference_training_starts_at_ln_2(tiny_recipe, start, tmp_path):
    found = curves(align(recipe_of(tiny_recipe, "dpo"), start, tmp_path / "out"))
    first = found[(found["metric"] == "loss") & (found["step"] == 1)]["value"].item()
    assert first == pytest.approx(math.log(2), abs=1e-4)


def test_a_whole_run_is_measured_and_scored_against_the_base_and_starts_from_the_sft_model(
    tiny_recipe, tmp_path, monkeypatch
):
    contenders = []

    class Spy(Scorer):
        def score(self, contender):
            contenders.append(contender)
            return ScoringResult(make_rows([]), [])

    monkeypatch.setattr(import_module("halobench.run"), "SCORERS", {"oracle": Spy})
    recipe = recipe_of(tiny_recipe, "dpo", "reference=base")
    execute(recipe, Store(tmp_path / "results"), lambda phase, done, total: None)
    base, sft = (key.path for key in stages_of(recipe))
    [contender] = contenders
    assert (contender.reference, contender.start) == (base, sft)
    assert contender.folder == policy_path(recipe.run_id)
    found = curves(contender.folder)
    first = found[(found["metric"] == "loss") & (found["step"] == 1)]["value"].item()
    assert abs(first - math.log(2)) > 1e-4


def test_another_reference_is_another_row_of_the_same_setting_and_stages(tiny_recipe, other):
    plain, base, given = (
        recipe_of(tiny_recipe, "dpo", *keys) for keys in ((), ("reference=base",), (f"reference={other}",))
    )
    assert len({recipe.run_id for recipe in (plain, base, given)}) == 3
    assert len({recipe.method_id for recipe in (plain, base, given)}) == 3
    assert len({recipe.setting_id for recipe in (plain, base, given)}) == 1
    assert stages_of(plain) == stages_of(base) == stages_of(given)


def test_a_reference_that_is_the_start_by_another_name_is_the_same_run(tiny_recipe):
    named, plain = (
        recipe_of(tiny_recipe, "dpo", "sft=null", f"reference={name}").run_id for name in ("base", "sft")
    )
    assert named == plain


def test_a_reference_with_another_vocabulary_is_refused(tiny_recipe, tmp_path):
    save_model(tmp_path / "stranger", tiny_llama(), tiny_tokenizer())
    with pytest.raises(RecipeError) as refused:
        recipe_of(tiny_recipe, "dpo", f"reference={tmp_path / 'stranger'}")
    [problem] = refused.value.problems
    assert problem.startswith(f"reference = '{tmp_path / 'stranger'}' in the command line: ")
    assert "has another vocabulary than the policy" in problem


def test_a_reference_that_knows_more_tokens_is_a_reference(tiny_recipe, other):
    document = json.loads((other / "tokenizer.json").read_text())
    more = {**document["added_tokens"][-1], "id": 10**4, "content": "<more>"}
    document["added_tokens"].append(more)
    (other / "tokenizer.json").write_text(json.dumps(document))
    assert recipe_of(tiny_recipe, "dpo", f"reference={other}").content["reference"]


def test_a_reference_that_is_nowhere_is_refused(tiny_recipe):
    with pytest.raises(RecipeError, match="reference = 'nowhere' in the command line: no such folder"):
        recipe_of(tiny_recipe, "dpo", "reference=nowhere")
