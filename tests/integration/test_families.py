"""Models of other families, from a folder to an exported one: trained, cached, exported, loaded again."""

import json

import pytest
import torch
import yaml
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

import halobench as hb
from halobench.compose import compose
from halobench.models.load import load_model
from halobench.results.store import Store
from halobench.run import execute
from halobench.stages import policy_path, stages_of
from halobench.training import SUMMARY

ALPHABET = ["<end>", *sorted(ByteLevel.alphabet())]  # a token for every byte, as families expect of theirs
SHAPE = {
    "vocab_size": len(ALPHABET),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
FAMILIES = {
    "gpt_neox": GPTNeoXConfig(**SHAPE, tie_word_embeddings=False),
    "llama": LlamaConfig(**GROUPED, tie_word_embeddings=True),
    "mistral": MistralConfig(**GROUPED, sliding_window=6),  # shorter than the rows
    "qwen2": Qwen2Config(**GROUPED),
    "qwen3": Qwen3Config(**GROUPED, head_dim=8),
}
ANSWERS = ["yes please", "no", "not now", "yes", "no please not now", "yes now"]
LORA = {"kind": "lora", "rank": 2, "alpha": 4}


def write_model(folder, config):
    """A random model of a family with a tokenizer of few words, as a folder."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    letters = Tokenizer(BPE({letter: index for index, letter in enumerate(ALPHABET)}, []))
    letters.pre_tokenizer = ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(
        tokenizer_object=letters, eos_token="<end>", bos_token="<end>", pad_token="<end>"
    ).save_pretrained(folder)


@pytest.fixture
def family(request, tmp_path):
    """A folder with feedback, a model of the family, and a recipe without a loss."""
    write_family(tmp_path, FAMILIES[request.param])
    return tmp_path


def write_family(folder, config):
    """Write feedback, a model and a recipe without a loss."""
    write_model(folder / "model", config)
    rows = [
        {
            "prompt": f"say {'so ' * (i % 5)}now",
            "chosen": ANSWERS[i % 6],
            "rejected": ANSWERS[(i + 1) % 6],
        }
        for i in range(30)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    optim = {"lr": 0.01}
    document = {
        "data": {"source": "jsonl", "path": str(folder / "rows.jsonl"), "num_pairs": 8},
        "model": {"path": str(folder / "model")},
        "sft": {"batch_pairs": 4, "optim": optim},
        "budget": {"batch_pairs": 4},
        "optim": optim,
        "scoring": {"scorers": ["implied_reward"], "num_prompts": 2},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(document))


def run(folder, loss, **keys):
    """Run a loss on the family; return its run id."""
    overrides = [f"loss.name={loss}", *(f"{key}={json.dumps(value)}" for key, value in keys.items())]
    [recipe] = compose(folder / "recipe.yaml", overrides).recipes
    assert execute(recipe, Store(folder / "results"), lambda phase, done, total: None) == "completed"
    return recipe


def logits(model, tokens):
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([tokens])).logits


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_a_family_is_trained_cached_exported_and_loaded_again(family, home, recwarn, request):
    adapter = {"adapter": LORA} if "llama" in request.node.name else {}
    for loss, keys in (("kto", {}), ("dpo", {}), ("csft", adapter)):
        recipe = run(family, loss, **keys)
        steps = json.loads((policy_path(recipe.run_id) / SUMMARY).read_text())["steps"]
        assert steps == 2
        hb.export(recipe.run_id, family / loss, results=family / "results")
        tokenizer = AutoTokenizer.from_pretrained(family / loss)
        tokens = tokenizer("say please yes now, no, not now")["input_ids"]
        assert len(tokens) == 31  # bytes
        exported = AutoModelForCausalLM.from_pretrained(family / loss)
        policy = load_model(policy_path(recipe.run_id))
        assert torch.equal(logits(exported, tokens), logits(policy, tokens))
        sft = load_model(stages_of(recipe)[-1].path)
        assert not torch.allclose(
            logits(sft, tokens), logits(policy, tokens)[..., : len(ALPHABET)], atol=1e-4
        )
    assert len(list((home / "reference").glob("[!.]*"))) >= 2  # of KTO and DPO
    assert not [str(warning.message) for warning in recwarn if "is run padded" in str(warning.message)]
