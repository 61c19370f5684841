"""On real pairs, with a real tokenizer and a small Llama: a loss that is shown preferences learns them."""

import pytest

from halobench.compose import compose
from halobench.feedback import EvaluationPrompt, PromptSet
from halobench.materials import Materials
from halobench.scoring.base import Contender
from halobench.scoring.implied_reward import ImpliedReward
from halobench.stages import policy_folder, reference_folder

RECIPE = """
data: {{source: ultrafeedback, path: {data}, num_pairs: 64, max_length: 96, max_prompt_length: 32}}
model:
  architecture: {{hidden_size: 32, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 2}}
  tokenizer: {{path: {tokenizer}}}
optim: {{lr: 3.0e-3}}
budget: {{match: pairs, epochs: 16, batch_pairs: 8}}
split_seed: 0
scoring: {{scorers: [implied_reward]}}
board: {{metric: implied_reward/accuracy}}
"""


@pytest.fixture
def recipe(shared_data, tmp_path):
    file = tmp_path / "recipe.yaml"
    tokenizer = shared_data / "tokenizers" / "torchtune-tiny"
    file.write_text(RECIPE.format(data=shared_data / "ultrafeedback", tokenizer=tokenizer))
    return file


def training_pairs(materials):
    """The pairs that were trained on, as if they had been held out."""
    feedback = materials.feedback
    return PromptSet(
        tuple(
            EvaluationPrompt(
                str(number),
                str(number),
                feedback.responses[pair.winner].prompt,
                (feedback.responses[pair.winner].completion,),
                (feedback.responses[pair.loser].completion,),
            )
            for number, pair in enumerate(feedback.pairs)
        )
    )


@pytest.mark.parametrize("loss", ["dpo", "slic", "kto", "offline_ppo"])
def test_preference_loss_puts_nine_tenths_of_its_training_pairs_right(loss, recipe):
    [run] = compose(recipe, [f"loss={loss}"]).recipes
    policy = policy_folder(run, lambda phase, done, total: None)
    reference = reference_folder(run, lambda phase, done, total: None)
    materials = Materials(run)
    materials.__dict__["prompts"] = training_pairs(materials)
    scores = {
        score.metric: score for score in ImpliedReward().score(Contender(materials, policy, reference)).scores
    }
    assert scores["accuracy"].num_samples == 64
    assert scores["accuracy"].value > 0.9
    assert scores["longer"].value < 0.7  # it is not for their length that they are right
