"""torch.compile changes how the layers are computed, and no gradient."""

import random
import shutil

import pytest

import halobench as hb
from halobench.compose import compose
from halobench.data.batches import make_step
from halobench.models.compiling import compile_layers
from tests.models.tiny import tiny_llama
from tests.training.stages import recipe_of
from tests.training.test_hot_path import ALL_ROWS, gradient, random_units, relative_error


@pytest.mark.filterwarnings("ignore")  # of the tracer's own, about what it traces
def test_gradients_are_the_same_and_attention_is_left_alone():
    units, others = random_units(random.Random(5), "Binary", [[3, 1], [30], [2, 9, 4]])
    step = make_step(units, others, max_tokens=ALL_ROWS)
    plain, compiled = tiny_llama().train(), tiny_llama().train()
    compile_layers(compiled, backend="aot_eager")  # all but the kernels, which take a minute
    names = set(compiled.state_dict())
    found = gradient(hb.LOSSES["kto"](), step, model=compiled)
    assert relative_error(found, gradient(hb.LOSSES["kto"](), step, model=plain)) < 1e-12
    assert names == set(plain.state_dict())
    for layer in compiled.model.layers:
        assert layer.mlp._compiled_call_impl is not None
        assert layer.input_layernorm._compiled_call_impl is not None
        assert layer.self_attn._compiled_call_impl is None


def test_it_makes_no_other_run(tiny_recipe):
    ids = {recipe_of(tiny_recipe, "kto", f"execution.compile={v}").run_id for v in ("true", "false")}
    assert len(ids) == 1


def test_neither_a_gpu_nor_a_compiler_is_told_before_anything_runs(tiny_recipe, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(hb.RecipeError, match="neither a GPU nor a C\\+\\+ compiler; install g"):
        compose(tiny_recipe, ["execution.compile=true", "seed=0"])
