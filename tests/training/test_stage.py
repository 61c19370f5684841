"""A training stage as a folder: weights, curves, summary, and what is left when it diverges."""

import pandas as pd
import pytest
import torch

import halobench as hb
from halobench.materials import Materials
from halobench.training.stage import train_stage
from tests.training.stages import align, curves, recipe_of, summary, weights


def test_a_loss_that_is_no_number_leaves_curves_and_no_weights(
    tiny_recipe, start, tmp_path, home, monkeypatch
):
    called = []

    class SoursAtStepThree(hb.Loss):
        needs_reference = False

        def __call__(self, batch: hb.Pairs) -> hb.LossOutput:
            called.append(batch)  # once a step, as a step is one microbatch
            factor = float("nan") if len(called) == 3 else 1.0
            return hb.LossOutput(losses=-batch.chosen.sequence * factor)

    monkeypatch.setattr(Materials, "loss", SoursAtStepThree())
    recipe = recipe_of(tiny_recipe, "slic", "budget.epochs=2")
    output = align(recipe, start, tmp_path / "out")
    facts = summary(output)
    assert facts["status"] == "diverged"
    assert facts["reason"] == "step 3 of 6: loss is nan"
    assert sorted(path.name for path in output.iterdir()) == ["curves.parquet", "training.json"]
    assert curves(output)["step"].unique().tolist() == [1, 2]
    assert list((home / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("loss", ["dpo", "kto", "sft"])
def test_an_absurd_learning_rate_is_recorded_as_diverged(loss, tiny_recipe, start, tmp_path):
    output = align(recipe_of(tiny_recipe, loss, "optim.lr=1e30"), start, tmp_path / "out")
    assert summary(output)["status"] == "diverged"
    assert not (output / "model.safetensors").exists()
    # the first step was still taken from finite weights
    assert curves(output)["step"].unique().tolist() == [1]


def test_a_completed_stage_is_a_model_folder_that_differs_from_its_start(tiny_recipe, start, tmp_path):
    output = align(recipe_of(tiny_recipe, "dpo"), start, tmp_path / "out")
    before, after = weights(start), weights(output)
    assert before.keys() == after.keys()
    assert all(not torch.equal(after[name], tensor) for name, tensor in before.items())
    assert {"config.json", "tokenizer.json"} <= {path.name for path in output.iterdir()}
    assert summary(output)["status"] == "completed"


def test_the_critic_is_never_exported(tiny_recipe, start, tmp_path):
    output = align(recipe_of(tiny_recipe, "offline_ppo"), start, tmp_path / "out")
    assert weights(output).keys() == weights(start).keys()


def test_progress_counts_the_steps(tiny_recipe, start, tmp_path):
    told = []
    align(recipe_of(tiny_recipe, "sft"), start, tmp_path / "out", lambda *what: told.append(what))
    # 24 pairs, of which both sides are tokenised
    assert told == [("tokenise", 48, 48), *(("align", step, 3) for step in (1, 2, 3))]


def test_the_summary_says_what_was_spent(tiny_recipe, start, tmp_path):
    facts = {
        loss: summary(align(recipe_of(tiny_recipe, loss), start, tmp_path / loss)) for loss in ("dpo", "kto")
    }
    num_parameters = sum(tensor.numel() for tensor in weights(start).values())
    for loss in ("dpo", "kto"):
        assert facts[loss]["steps"] == 3
        assert facts[loss]["completions"] == 48
        assert facts[loss]["parameters"] == num_parameters
        spent = curves(tmp_path / loss)
        assert spent["tokens"].max() == facts[loss]["tokens"]
    # each mismatched prompt and completion is a row of kto's again, forward only: 2 and not 6 a token
    trained = facts["dpo"]["tokens"]
    assert facts["dpo"]["flops"] == 6 * num_parameters * trained
    assert facts["kto"]["tokens"] == 2 * trained
    assert facts["kto"]["flops"] == (6 + 2) * num_parameters * trained


def test_a_ratio_of_weights_is_that_of_what_is_left_of_the_feedback(tiny_recipe, start, tmp_path):
    thin = "data.desirable_fraction=0.3"
    by_ratio = align(recipe_of(tiny_recipe, "kto", thin, "loss.lambda_ratio=1"), start, tmp_path / "ratio")
    facts = summary(by_ratio)
    counts = facts["desirable"], facts["undesirable"]
    assert counts[0] == -(-3 * counts[1] // 10)  # 24 pairs whose answers are all different
    weight = f"loss.lambda_d={counts[1] / counts[0]}"
    by_hand = align(recipe_of(tiny_recipe, "kto", thin, weight), start, tmp_path / "hand")
    plain = align(recipe_of(tiny_recipe, "kto", thin), start, tmp_path / "plain")
    assert all(torch.equal(tensor, weights(by_hand)[name]) for name, tensor in weights(by_ratio).items())
    assert not all(torch.equal(tensor, weights(plain)[name]) for name, tensor in weights(by_ratio).items())


def test_the_stages_base_and_sft_train_from_a_new_model(tiny_recipe, tmp_path):
    recipe = recipe_of(tiny_recipe, "dpo")
    folders = {stage: tmp_path / stage for stage in ("base", "sft")}
    begin = None
    for stage, folder in folders.items():
        folder.mkdir()
        train_stage(Materials(recipe), stage, stage, begin, folder, lambda *what: None)
        begin = folder
    assert [summary(folder)["steps"] for folder in folders.values()] == [6, 3]
    losses = pd.concat([curves(folder).query("metric == 'loss'") for folder in folders.values()])["value"]
    assert losses.is_monotonic_decreasing is False
    assert losses.iloc[-1] < losses.iloc[0]
