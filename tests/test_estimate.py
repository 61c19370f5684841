"""Estimates: the same from published sizes as counted on rows of these sizes, and what runs share."""

import json

import pytest
import yaml
from tokenizers.pre_tokenizers import Whitespace

from halobench import counting
from halobench.compose import compose
from halobench.estimate import estimate
from halobench.materials import Materials
from halobench.published.sizes import UNFETCHED, Sizes
from tests.models.tiny import tiny_tokenizer

ARCHITECTURE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
LOSSES = ["sft", "csft", "slic", "dpo", "offline_ppo", "kto"]


@pytest.fixture
def recipe(tmp_path):
    """60 pairs of distinct answers to 60 prompts, all of them equally long."""
    rows = [
        {
            "prompt": f"w1 w{index // 30} w{index % 30}",
            "chosen": f"w2 w{index // 30} w{index % 30} w5",
            "rejected": f"w3 w{index // 30} w{index % 30} w5",
        }
        for index in range(75)
    ]
    splits = {"train": rows[:60], "test": rows[60:68], "dev": rows[68:]}
    for split, part in splits.items():
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, part)))
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save_pretrained(tmp_path / "tokenizer")

    def write(**keys):
        file = tmp_path / "mine.yaml"
        values = {
            "data": {"source": "jsonl", "path": str(tmp_path), "max_length": 40, "max_prompt_length": 30},
            "model": {"architecture": ARCHITECTURE, "tokenizer": {"path": str(tmp_path / "tokenizer")}},
            "sft": {"batch_pairs": 8, "optim": {"lr": 1e-3}},
            "optim": {"lr": 1e-3},
            "budget": {"batch_pairs": 8},
            "split_seed": 0,
            "scoring": {"scorers": ["implied_reward"]},
            "board": {"metric": "implied_reward/accuracy"},
            "matrix": {"loss": LOSSES},
        }
        file.write_text(yaml.safe_dump({**values, **keys}))
        return compose(file).recipes

    return write


@pytest.mark.parametrize("match", ["pairs", "steps", "examples"])
@pytest.mark.parametrize(("epochs", "fraction"), [(1, 1), (2.5, 1), (1, 0.5)])
def test_published_sizes_give_what_counting_gives(recipe, monkeypatch, match, epochs, fraction):
    axis = {"loss": LOSSES, "data.fraction": [fraction]}
    for known in recipe(budget={"match": match, "epochs": epochs, "batch_pairs": 8}, matrix=axis):
        materials = Materials(known)
        encoder = materials.encoder(materials.tokenizer)
        row = next(iter(materials.feedback.responses.values()))
        [(prompt, completion, _)] = encoder.encode([(row.prompt, row.completion)])
        assert len(completion) == 5  # four words and the end
        sizes = Sizes(60, 60, 60, 60, 8, len(prompt), 5)
        monkeypatch.setattr(counting, "sizes_of", lambda data, sizes=sizes: sizes)
        away = known.model_copy(update={"content": {**known.content, "source": f"{UNFETCHED}rows"}})
        counted, published = estimate(known), estimate(away)
        assert counted.tokens == published.tokens > 0
        assert counted.flops == pytest.approx(published.flops)
        assert counted.memory == pytest.approx(published.memory)
        assert sorted(counted.shared.values()) == pytest.approx(sorted(published.shared.values()))


def test_fair_steps_are_the_same_for_every_loss_and_their_tokens_are_not(recipe):
    runs = {known.name: known for known in recipe(budget={"match": "steps", "batch_pairs": 8})}
    tokens = {name: estimate(known).tokens for name, known in runs.items()}
    # a demonstration is one side of a pair; mismatched completions for z0 come on top
    assert tokens["csft"] == tokens["dpo"] == tokens["offline_ppo"] == 2 * tokens["sft"]
    assert tokens["kto"] == 2 * tokens["dpo"]


def test_losses_share_the_stages_and_the_log_probabilities_of_the_same_rows(recipe):
    shared = {known.name: set(estimate(known).shared) for known in recipe()}
    [sft] = shared["sft"]  # neither SFT, CSFT nor SLiC has a reference
    assert sft.startswith("sft-")
    assert shared["csft"] == shared["slic"] == shared["sft"]
    [reference] = shared["dpo"] - {sft}
    assert shared["offline_ppo"] == {sft, reference}
    [mismatched] = shared["kto"] - {sft, reference}
    assert mismatched.startswith("mismatched-")


def test_thinned_rows_are_other_rows(recipe):
    data = {"max_length": 40, "max_prompt_length": 30, "source": "jsonl"}
    whole = recipe(matrix={"loss": ["kto"]})[0]
    path = whole.data.path
    half = recipe(matrix={"loss": ["kto"]}, data={**data, "path": path, "desirable_fraction": 0.5})[0]
    # 30 + 60 of 120 completions, half of the units without their desirable side
    assert estimate(half).tokens == pytest.approx(estimate(whole).tokens * 90 / 120)
    assert not (set(estimate(half).shared) & set(estimate(whole).shared)) - {
        name for name in estimate(whole).shared if name.startswith(("sft", "base"))
    }
