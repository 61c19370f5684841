"""Gradient checkpointing changes memory and time, and no gradient."""

import random

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import halobench as hb
from halobench.data.batches import make_step
from halobench.errors import TrainingError
from halobench.models import attention, checkpointing
from halobench.models.attention import Segments
from halobench.models.checkpointing import checkpoint_layers
from tests.models.tiny import VOCABULARY, tiny_llama
from tests.training.stages import align, make_reference, recipe_of, weights
from tests.training.test_hot_path import (
    ALL_ROWS,
    BUILT_IN,
    gradient,
    loss_named,
    random_units,
    relative_error,
)


@pytest.fixture
def start(tiny_recipe, tmp_path):
    """Folder of a random tiny model."""
    return make_reference(recipe_of(tiny_recipe, "dpo"), tmp_path / "start")


def tiny_neox():
    torch.manual_seed(0)
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
        )
    ).double()


def grouped():
    return tiny_llama(num_attention_heads=4, num_key_value_heads=2)


@pytest.mark.parametrize(
    ("name", "make_model", "packed"),
    [
        *((name, tiny_llama, True) for name in [*BUILT_IN, "coupled"]),
        ("kto", grouped, True),
        ("kto", tiny_neox, True),
        ("kto", tiny_llama, False),
        ("offline_ppo", tiny_llama, False),
    ],
)
def test_gradients_of_every_loss_are_the_same(name, make_model, packed):
    loss = loss_named(name)
    units, others = random_units(random.Random(5), loss.view().__name__, [[3, 1], [30], [2, 9, 4]])
    step = make_step(units, others if loss.uses_z0 else None, max_tokens=ALL_ROWS, packed=packed)
    plain, checkpointed = make_model().train(), make_model().train()
    checkpoint_layers(checkpointed)
    found = gradient(loss, step, model=checkpointed)
    assert relative_error(found, gradient(loss, step, model=plain)) < 1e-12


def test_layers_are_computed_twice_and_keep_the_prompts_keys_once(monkeypatch):
    asked, layouts = [], []
    original = Segments.attend

    def attend(self, layer, *args, **kwargs):
        asked.append((layer, self.kept is not None, self.memory is not None))
        layouts.append(self)
        return original(self, layer, *args, **kwargs)

    monkeypatch.setattr(Segments, "attend", attend)
    model = tiny_llama().train()
    checkpoint_layers(model)
    units, others = random_units(random.Random(5), "Binary", [[3, 1], [2]])
    step = make_step(units, others, max_tokens=ALL_ROWS)
    gradient(hb.LOSSES["kto"](), step, model=model)
    first = [(0, True, False), (1, True, False)]  # layer, keeps, reads what was kept
    mismatched = [(0, False, True), (1, False, True)]
    again = [(1, False, False), (0, False, False)]  # from the last layer backwards
    assert asked[-6:] == [*first, *mismatched, *again]
    assert all(layout.kept is None for layout in layouts)
    assert model.config._attn_implementation != attention.ATTENTION


def test_a_stage_ends_with_the_same_weights(tiny_recipe, start, tmp_path):
    overrides = ("precision=64-true", "execution.microbatch_tokens=400")
    plain, checkpointed = (
        weights(align(recipe_of(tiny_recipe, "kto", *overrides, *more), start, tmp_path / str(len(more))))
        for more in ((), ("execution.gradient_checkpointing=true",))
    )
    for name, tensor in plain.items():
        torch.testing.assert_close(checkpointed[name], tensor, rtol=0, atol=1e-12)


def test_it_makes_no_other_run(tiny_recipe):
    ids = {
        recipe_of(tiny_recipe, "kto", f"execution.gradient_checkpointing={value}").run_id
        for value in ("true", "false")
    }
    assert len(ids) == 1


def test_a_family_without_such_layers_is_refused(monkeypatch):
    monkeypatch.setattr(checkpointing, "GradientCheckpointingLayer", torch.nn.Conv2d)
    with pytest.raises(TrainingError, match="has no layers that can be computed again"):
        checkpoint_layers(tiny_llama())
