"""Adapters: what is trained and what is not, what is left in the folder, and what is refused before."""

import importlib.util
import math
import random

import pytest
import torch
from peft import PeftModel

from halobench import RecipeError
from halobench.data.batches import make_step
from halobench.data.rows import Row
from halobench.errors import TrainingError
from halobench.models.adapter import add_adapter, in_four_bits, merge, save_adapter
from halobench.models.load import add_control_tokens, load_model, load_tokenizer, save_model
from halobench.sections import Adapter, Model
from halobench.stages import stages_of
from tests.models.tiny import VOCABULARY, logps_by_hand, tiny_llama, tiny_tokenizer
from tests.training.stages import align, curves, recipe_of, summary, weights
from tests.training.test_hot_path import ALL_ROWS, gradient, loss_named, random_units, relative_error
from tests.training.test_resume import TWO_EPOCHS, stop_after

LORA = "adapter={kind: lora, rank: 4, alpha: 8}"
DROPPING = "adapter={kind: lora, rank: 4, alpha: 8, dropout: 0.2}"
ROW = Row((1, 2, 3), (4, 5, 6, 7), True)
CONTROL = [VOCABULARY, VOCABULARY + 1]

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


def adapted(model, *, tokens=(), **adapter):
    """The model with an adapter whose B is not zero any more."""
    add_adapter(model, Adapter(rank=2, **adapter), tokens=tokens, seed=0, base=None)
    stream = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "trainable_tokens" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=stream)
    return model


@pytest.mark.parametrize(
    ("name", "tied"),
    [
        ("csft", True),
        ("csft", False),
        ("dpo", True),
        ("kto", False),
        ("offline_ppo", True),
        ("coupled", False),
    ],
)
def test_gradients_are_those_of_the_plain_computation(name, tied):
    loss = loss_named(name)
    model = tiny_llama(tie_word_embeddings=tied)
    add_control_tokens(model, tiny_tokenizer(), ("<good>", "<bad>"))
    adapted(model, tokens=CONTROL if name == "csft" else ())
    units, others = random_units(random.Random(5), loss.view().__name__, [[3, 1], [30], [2, 9, 4]])
    if name == "csft":
        units = [tuple(row._replace(prompt=(*row.prompt, CONTROL[0])) for row in unit) for unit in units]
    packed, padded = (
        gradient(
            loss,
            make_step(units, others if loss.uses_z0 else None, max_tokens=ALL_ROWS, packed=p),
            model=model,
        )
        for p in (True, False)
    )
    assert relative_error(packed, padded) < 1e-6
    rows = sum(p.numel() for n, p in model.named_parameters() if "trainable_tokens" in n)
    # two rows of width 16, of the embeddings and of an untied head
    assert rows == {True: 32, False: 64}[tied] * (name == "csft")


def test_it_starts_as_the_model_that_it_is_put_into():
    plain, model = tiny_llama(), tiny_llama()
    add_adapter(model, Adapter(rank=2, dropout=0.5), tokens=(), seed=0, base=None)
    assert torch.equal(logps_by_hand(model.train(), ROW), logps_by_hand(plain, ROW))
    # 7 linear layers of 2 blocks: A is (2, in), B is (out, 2); 4 of 16 x 16, 3 between 16 and 24
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 2 * (4 * 2 * (16 + 16) + 3 * 2 * (16 + 24))


def test_its_seed_decides_where_it_starts_and_nothing_else_is_drawn():
    first, same, other = (tiny_llama() for _ in range(3))
    before = torch.get_rng_state()
    for model, seed in ((first, 0), (same, 0), (other, 1)):
        add_adapter(model, Adapter(), tokens=(), seed=seed, base=None)
    name = "model.layers.0.self_attn.q_proj.lora_A.default.weight"
    assert torch.equal(first.get_parameter(name), same.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))
    assert torch.equal(torch.get_rng_state(), before)


def test_targets_that_a_model_does_not_have_are_told_with_those_it_has():
    with pytest.raises(TrainingError, match=r"adapter\.targets = \['query'\]: .*q_proj.*all-linear"):
        add_adapter(tiny_llama(), Adapter(targets=("query",)), tokens=(), seed=0, base=None)


def test_a_stage_leaves_the_merged_model_and_the_adapter(tiny_recipe, start, tmp_path):
    folder = align(recipe_of(tiny_recipe, "offline_ppo", LORA), start, tmp_path / "out")
    before, after = weights(start), weights(folder)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "proj" in name}

    own = PeftModel.from_pretrained(load_model(start, "64-true"), folder / "adapter")
    expected = logps_by_hand(own, ROW)
    torch.testing.assert_close(logps_by_hand(load_model(folder, "64-true"), ROW), expected, atol=1e-4, rtol=0)
    assert not torch.allclose(logps_by_hand(load_model(start, "64-true"), ROW), expected, atol=1e-3)
    assert str(start) not in (folder / "adapter" / "adapter_config.json").read_text()


def test_frozen_weights_cost_no_gradient(tiny_recipe, start, tmp_path):
    every, few = (
        summary(align(recipe_of(tiny_recipe, "dpo", *more), start, tmp_path / str(len(more))))
        for more in ((), (LORA,))
    )
    added = few["parameters"] - every["parameters"]
    # as above, at rank 4
    assert added == 2 * (4 * 4 * (16 + 16) + 3 * 4 * (16 + 24))
    assert few["flops"] == every["tokens"] * (4 * few["parameters"] + 2 * added)
    assert every["flops"] == every["tokens"] * 6 * every["parameters"]


@pytest.mark.parametrize("tied", [True, False])
def test_the_rows_of_control_tokens_are_merged_and_the_others_stay(tied, tmp_path):
    folder = tmp_path / "start"
    save_model(folder, tiny_llama(dtype=torch.float32, tie_word_embeddings=tied), tiny_tokenizer())
    model, plain = load_model(folder), load_model(folder)
    for each in (model, plain):
        add_control_tokens(each, tiny_tokenizer(), ("<good>", "<bad>"))
    adapted(model, tokens=CONTROL)
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    save_adapter(folder / "adapter", model, trained)
    before = [layer.weight.detach().clone() for layer in (plain.get_input_embeddings(), plain.lm_head)]
    merged = merge(plain, folder / "adapter")
    for layer, rows in zip((merged.get_input_embeddings(), merged.lm_head), before, strict=True):
        assert torch.equal(layer.weight[:VOCABULARY], rows[:VOCABULARY])
        assert not torch.isclose(layer.weight[VOCABULARY:], rows[VOCABULARY:]).all(-1).any()
    row = ROW._replace(prompt=(1, 2, CONTROL[0]))
    torch.testing.assert_close(logps_by_hand(merged, row), logps_by_hand(model, row), atol=1e-4, rtol=0)


def test_a_whole_stage_of_csft_trains_the_rows_of_its_tokens(tiny_recipe, start, tmp_path):
    folder = align(recipe_of(tiny_recipe, "csft", LORA), start, tmp_path / "out")
    before, after = (weights(f)["model.embed_tokens.weight"] for f in (start, folder))
    tokenizer = load_tokenizer(Model(path=str(folder)))
    control = tokenizer.convert_tokens_to_ids(list(loss_named("csft").control_tokens))
    changed = (before != after).any(-1).nonzero().flatten().tolist()
    assert changed == sorted(control)


def test_dropout_leaves_the_start_alone_and_changes_the_rest(tiny_recipe, start, tmp_path):
    losses = [
        curves(align(recipe_of(tiny_recipe, "dpo", more), start, tmp_path / more[-3:]))
        .query("metric == 'loss'")["value"]
        .tolist()
        for more in (LORA, DROPPING)
    ]
    for values in losses:
        assert values[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[0][2] != losses[1][2]


def test_an_interrupted_run_goes_on_to_the_same_bytes(tiny_recipe, start, tmp_path, home):
    recipe = recipe_of(tiny_recipe, "kto", DROPPING, *TWO_EPOCHS)
    whole = align(recipe, start, tmp_path / "whole", name="whole")
    with pytest.raises(RuntimeError, match="pulled the plug"):
        align(recipe, start, tmp_path / "out", stop_after(3))
    [checkpoint] = (home / "checkpoints").glob("*/last.ckpt")
    kept = torch.load(checkpoint, weights_only=False)["state_dict"]
    assert kept
    assert all("lora" in name for name in kept)
    resumed = align(recipe, start, tmp_path / "out")
    for file in ("model.safetensors", "curves.parquet", "adapter/adapter_model.safetensors"):
        assert (resumed / file).read_bytes() == (whole / file).read_bytes(), file


def test_an_adapter_makes_other_runs_settings_and_sft_stages(tiny_recipe):
    plain, low, high = (
        recipe_of(tiny_recipe, "dpo", *more) for more in ((), (LORA,), (LORA, "adapter.rank=8"))
    )
    for name in ("run_id", "setting_id"):
        assert len({getattr(recipe, name) for recipe in (plain, low, high)}) == 3
    bases, sfts = zip(*map(stages_of, (plain, low, high)), strict=True)
    assert len(set(bases)) == 1
    assert len(set(sfts)) == 3
    without = [recipe_of(tiny_recipe, "dpo", "sft=null", *more) for more in ((), (LORA,))]
    assert stages_of(without[0]) == stages_of(without[1])  # there is nothing to be adapted in them


@pytest.mark.parametrize(
    ("keys", "installed", "told"),
    [
        ("{kind: lora}", (), "needs peft; pip install 'halobench[lora]'"),
        (
            "{kind: qlora}",
            ("peft",),
            "needs bitsandbytes and accelerate; pip install 'halobench[qlora]'",
        ),
    ],
)
def test_a_missing_package_is_told_before_anything_runs(tiny_recipe, monkeypatch, keys, installed, told):
    monkeypatch.setattr("halobench.check.models.is_installed", lambda name: name in installed)
    with pytest.raises(RecipeError) as refused:
        recipe_of(tiny_recipe, "dpo", f"adapter={keys}")
    assert [problem.partition(": ")[2] for problem in refused.value.problems] == [told]


@pytest.mark.parametrize(
    ("more", "told"),
    [("execution.strategy=fsdp", "not sharded"), ("precision=64-true", "use another precision")],
)
def test_what_four_bits_cannot_do_is_refused(tiny_recipe, monkeypatch, more, told):
    monkeypatch.setattr("halobench.check.models.is_installed", lambda name: True)
    with pytest.raises(RecipeError, match=told):
        recipe_of(tiny_recipe, "dpo", "adapter={kind: qlora}", more)


@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
def test_four_bits_train_as_the_rounded_weights_do_and_are_merged_into_them(tmp_path):
    save_model(
        tmp_path / "start",
        tiny_llama(dtype=torch.float32, hidden_size=64, intermediate_size=128),
        tiny_tokenizer(),
    )
    rounded = load_model(tmp_path / "start", quantization=in_four_bits(torch.float32))
    plain = load_model(tmp_path / "start", quantization=in_four_bits(torch.float32)).dequantize()
    units, others = random_units(random.Random(5), "Binary", [[3, 1], [30], [2, 9, 4]])
    step = make_step(units, others, max_tokens=ALL_ROWS)
    found, expected = (
        gradient(loss_named("kto"), step, torch.float32, adapted(model).train()) for model in (rounded, plain)
    )
    assert relative_error(found, expected) < 1e-4

    trained = {name: p.detach() for name, p in rounded.named_parameters() if p.requires_grad}
    save_adapter(tmp_path / "adapter", rounded.eval(), trained)
    start = load_model(tmp_path / "start", quantization=in_four_bits(torch.float32))
    merged = merge(start, tmp_path / "adapter")
    save_model(tmp_path / "merged", merged, tiny_tokenizer())
    found, expected = (logps_by_hand(model.eval(), ROW) for model in (load_model(tmp_path / "merged"), plain))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert float((found - logps_by_hand(load_model(tmp_path / "start"), ROW)).abs().max()) > 0.01
