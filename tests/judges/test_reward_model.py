"""A reward model as the judge: one score a conversation, whatever stands beside it in the batch."""

import json
import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from halobench.compose import compose
from halobench.errors import DataError, RecipeError
from halobench.feedback import Message
from halobench.judges.base import Answer
from halobench.judges.reward_model import RewardModel
from halobench.materials import Materials
from halobench.run import _without_paths
from halobench.stages import policy_folder
from tests.models.tiny import tiny_llama
from tests.training.stages import summary

PROMPT = (Message("user", "a hot drink , under 4 ."),)
ANSWERS = ("try the chai .", "sorry , we have nothing like that .", "try the mocha . it costs 4 .")


@pytest.fixture
def materials(tiny_recipe):
    return Materials(
        compose(tiny_recipe, ["loss.name=dpo", "seed=0", "execution.microbatch_tokens=48"]).recipes[0]
    )


@pytest.fixture
def classifier(tmp_path, materials):
    """Save a random classifier with the tokenizer of the world."""

    def save(num_labels=1, name="rm", max_positions=128):
        folder = tmp_path / name
        tokenizer = materials.tokenizer
        shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            num_labels=num_labels,
            pad_token_id=tokenizer.pad_token_id,
            max_position_embeddings=max_positions,
            **shape,
        )
        model = LlamaForSequenceClassification(config)
        stream = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.normal_(std=0.4, generator=stream)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


def judged(folder, materials, texts=ANSWERS):
    answers = [Answer(PROMPT, text, True) for text in texts]
    return RewardModel(path=str(folder)).scores(answers, materials, random.Random(0))


def test_the_score_is_the_logit_of_the_conversation_alone(classifier, materials):
    folder = classifier()
    model = LlamaForSequenceClassification.from_pretrained(folder).eval()
    by_hand = []
    for text in ANSWERS:
        # the cafe's template ends a turn with a space
        tokens = materials.tokenizer(f"<user> {PROMPT[0].content} <bot> {text} ")["input_ids"]
        with torch.no_grad():
            by_hand.append(float(model(input_ids=torch.tensor([tokens])).logits[0, 0]))
    # texts of 13, 17 and 17 tokens in forward passes of 48: the first two are padded together
    assert judged(folder, materials) == pytest.approx(by_hand, abs=1e-5)
    assert len(set(by_hand)) == 3


def test_scores_do_not_depend_on_the_order(classifier, materials):
    folder = classifier()
    assert judged(folder, materials, ANSWERS[::-1]) == pytest.approx(
        judged(folder, materials)[::-1], abs=1e-6
    )


def test_a_conversation_that_is_too_long_is_refused(classifier, materials):
    with pytest.raises(DataError, match="takes 17 tokens, and the classifier reads 16; lower"):
        judged(classifier(max_positions=16), materials)


def section(folder):
    return f"data.online={{rounds: 2, judge: {{name: reward_model, path: {json.dumps(str(folder))}}}}}"


def problems(tiny_recipe, folder):
    with pytest.raises(RecipeError) as caught:
        compose(tiny_recipe, ["loss.name=dpo", "seed=0", section(folder)])
    return caught.value.problems


def test_what_is_no_reward_model_is_refused_in_a_line(tiny_recipe, classifier, tmp_path):
    nowhere, three, bare = tmp_path / "nowhere", classifier(3, "three"), classifier(1, "bare")
    for file in bare.glob("tokenizer*"):
        file.unlink()
    generator = tmp_path / "generator"
    tiny_llama(dtype=torch.float32).save_pretrained(generator)
    for folder, complaint in (
        (nowhere, "no config.json there; give the folder of a sequence classifier"),
        (three, "the classifier there has 3 labels; give one with one, its score"),
        (bare, "the folder has no tokenizer; save the classifier's there"),
        (generator, "the model there is LlamaForCausalLM; give a sequence classifier with one label"),
    ):
        place = f"data.online.judge.path = {str(folder)!r} in the command line"
        assert problems(tiny_recipe, folder) == (f"{place}: {complaint}",)


def test_two_labels_which_transformers_leaves_out_of_the_file_are_two(tiny_recipe, classifier):
    [problem] = problems(tiny_recipe, classifier(2, "two"))
    assert problem.endswith("the classifier there has 2 labels; give one with one, its score")


def test_a_run_is_named_by_what_the_classifier_is_and_not_by_where(tiny_recipe, classifier):
    def compose_with(folder):
        return compose(tiny_recipe, ["loss.name=dpo", "seed=0", section(folder)]).recipes[0]

    first = classifier(name="first")
    here, moved = compose_with(first), compose_with(classifier(name="moved"))
    assert here.run_id == moved.run_id
    assert _without_paths(here)["data"]["online"]["judge"]["path"] == "first"
    config = json.loads((first / "config.json").read_text())
    (first / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-4}))
    assert compose_with(first).run_id != here.run_id


def test_it_judges_an_online_run(tiny_recipe, classifier):
    settings = ["loss.name=kto", "seed=0", "sft=null", "base.steps=1", section(classifier())]
    facts = summary(policy_folder(compose(tiny_recipe, settings).recipes[0], lambda *_: None))
    assert facts["status"] == "completed"
    assert [row["num_prompts"] for row in facts["rounds"]] == [12, 12]
