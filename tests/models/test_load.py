"""Models from scratch and from folders: initial weights, dtypes, dropout, control tokens."""

import pytest
import torch

from halobench.models.load import (
    add_control_tokens,
    load_model,
    load_tokenizer,
    new_model,
    save_model,
    weights_digest,
)
from halobench.sections import Architecture, Model, TokenizerFile
from tests.models.tiny import tiny_llama, tiny_tokenizer

WIDE = Model(
    architecture=Architecture(
        hidden_size=256, intermediate_size=400, num_hidden_layers=1, num_attention_heads=4
    )
)


def weights(model):
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def test_new_weights_are_as_wide_as_documented():
    found = weights(new_model(WIDE, tiny_tokenizer(), seed=0))
    expected = {
        "embed_tokens": 0.02,
        "q_proj": 256**-0.5,
        "up_proj": 256**-0.5,
        "o_proj": 256**-0.5 / 2,
        "down_proj": 400**-0.5 / 2,
    }
    for part, std in expected.items():
        (weight,) = (tensor for name, tensor in found.items() if part in name)
        assert weight.std().item() == pytest.approx(std, rel=0.03)  # of at least 10 240 numbers
        assert abs(weight.mean().item()) < 0.05 * std


def test_new_weights_follow_from_their_seed():
    torch.manual_seed(1)
    first = weights(new_model(WIDE, tiny_tokenizer(), seed=7))
    torch.manual_seed(2)
    again, other = (weights(new_model(WIDE, tiny_tokenizer(), seed=seed)) for seed in (7, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].dim() == 2)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("64-true", torch.float64),
        ("bf16-mixed", torch.float32),
        ("bf16-true", torch.bfloat16),
    ],
)
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_the_precision_decides_the_dtype_and_not_the_file(tmp_path, stored, precision, dtype):
    tiny_llama(dtype=stored).save_pretrained(tmp_path)
    model = load_model(tmp_path, precision)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    expected = weights(tiny_llama(dtype=stored))
    assert all(torch.equal(tensor, expected[name].to(dtype)) for name, tensor in weights(model).items())


def test_a_loaded_model_has_no_dropout_even_when_it_trains(tmp_path):
    tiny_llama(attention_dropout=0.5).save_pretrained(tmp_path)
    model = load_model(tmp_path).train()
    tokens = torch.arange(1, 11)[None]
    first, again = model(tokens).logits, model(tokens).logits
    torch.testing.assert_close(again, first, rtol=0, atol=0)


def embeddings(model):
    return model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach()


@pytest.mark.parametrize("tied", [True, False])
def test_new_control_tokens_start_as_the_mean_of_the_known_ones(tied):
    model, tokenizer = tiny_llama(tie_word_embeddings=tied), tiny_tokenizer()
    known = [weight.clone() for weight in embeddings(model)]
    add_control_tokens(model, tokenizer, ("<good>", "<bad>"))
    assert tokenizer.convert_tokens_to_ids(["<good>", "<bad>"]) == [40, 41]
    for weight, before in zip(embeddings(model), known, strict=True):
        assert weight.shape == (42, 16)
        assert torch.equal(weight[:40], before)
        torch.testing.assert_close(weight[40:], before.mean(0).expand(2, 16))
    assert torch.equal(*embeddings(model)) is tied


def test_control_tokens_that_are_known_keep_their_rows():
    tokenizer = tiny_tokenizer("<good>", "<bad>")
    model = tiny_llama(vocab_size=42)
    before = [weight.clone() for weight in embeddings(model)]
    add_control_tokens(model, tokenizer, ("<good>", "<bad>"))
    assert len(tokenizer) == 42
    assert all(torch.equal(*pair) for pair in zip(embeddings(model), before, strict=True))


def test_a_control_token_is_one_token_also_after_saving_and_loading(tmp_path):
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    add_control_tokens(model, tokenizer, ("<good>", "<bad>"))
    save_model(tmp_path, model, tokenizer)
    loaded = load_tokenizer(Model(path=str(tmp_path)))
    assert loaded("<good>", add_special_tokens=False)["input_ids"] == [40]
    assert load_model(tmp_path).get_input_embeddings().weight.shape == (42, 16)


def test_a_tokenizer_file_takes_the_markers_that_the_recipe_names(tmp_path):
    tiny_tokenizer("<pad>").backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    file = str(tmp_path / "tokenizer.json")
    architecture = WIDE.architecture
    plain, padded = (
        load_tokenizer(Model(architecture=architecture, tokenizer=TokenizerFile(path=file, **names)))
        for names in ({"eos": "<end>"}, {"eos": "<end>", "pad": "<pad>", "bos": "w0"})
    )
    assert (plain.eos_token, plain.pad_token, plain.bos_token) == ("<end>", "<end>", None)
    assert (padded.eos_token, padded.pad_token, padded.bos_token) == ("<end>", "<pad>", "w0")


def test_the_digest_tells_weights_apart_and_nothing_else(tmp_path):
    tokenizer = tiny_tokenizer()
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        save_model(tmp_path / folder, tiny_llama(seed), tokenizer)
    (tmp_path / "b" / "notes.txt").write_text("trained on a Tuesday")
    first, same, other = (weights_digest(tmp_path / folder) for folder in "abc")
    assert first == same
    assert first != other
