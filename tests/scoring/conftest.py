"""Contenders with untrained models and handmade prompts of the default world."""

from pathlib import Path

import pytest

from halobench.compose import compose
from halobench.feedback import EvaluationPrompt, Message, PromptSet
from halobench.materials import Materials
from halobench.models.load import new_model, save_model
from halobench.scoring.base import Contender, Text

# World 0: chai and lemonade are hot drinks under 4, the mocha is cold, the tea cold and 5; the bagel costs 3.
# Utilities of the preferred answers: 2; 2 * 2/3 - 2 = -.667; -1 (something fits); 2 * 1/3 - 2 = -1.333.
DRINK = EvaluationPrompt(
    "drink",
    "drink",
    (Message("user", "a hot drink , under 4 ."),),
    ("try the chai .", "try the mocha .", "sorry , we have nothing like that .", "try the tea ."),
    ("ugh .",) * 4,
)
# 2 and 2.3
SNACK = EvaluationPrompt(
    "snack",
    "snack",
    (Message("user", "a snack ."),),
    ("try the bagel .", "try the bagel . it costs 3 ."),
    ("ugh .",) * 2,
)
PROMPTS = PromptSet((DRINK, SNACK))
DEV = PromptSet((DRINK._replace(prompt_id="dev"),))


@pytest.fixture
def make(tiny_recipe, tmp_path):
    """Make a contender: models are named by their seed, prompts are handmade."""

    def model(materials, seed) -> Path:
        folder = tmp_path / f"model-{seed}"
        if not folder.is_dir():
            made = new_model(materials.recipe.model, materials.tokenizer, seed=seed)
            save_model(folder, made, materials.tokenizer)
        return folder

    def contender(*overrides, policy=1, reference=2, prompts=PROMPTS, loss="dpo"):
        suite = compose(tiny_recipe, [f"loss.name={loss}", "seed=0", *overrides])
        materials = Materials(suite.recipes[0])
        materials.__dict__.update(prompts=prompts, dev_prompts=DEV)  # as if they had been read
        start = None if reference is None else model(materials, reference)
        return Contender(materials, model(materials, policy), start)

    return contender


@pytest.fixture
def scripted(monkeypatch):
    """Replace what the models of a contender say: {temperature: {prompt_id: [text, ...]}}."""

    def script(contender, policy, reference=None, *, entropy=lambda who, temperature: 1.0):
        def said(who, answers):
            def texts(prompts, temperature):
                return [
                    Text(
                        row.prompt_id,
                        rep,
                        text,
                        tuple(contender.tokenizer(text)["input_ids"]),
                        text.endswith("<eos>"),
                        entropy(who, temperature),
                    )
                    for row in prompts.rows
                    for rep, text in enumerate(answers[temperature][row.prompt_id])
                ]

            return texts

        monkeypatch.setattr(contender, "texts", said("policy", policy))
        monkeypatch.setattr(
            contender, "reference_texts", said("reference", {} if reference is None else reference)
        )

    return script


def values(result):
    """(task, metric) to the number."""
    return {(score.task, score.metric): score.value for score in result.scores}
