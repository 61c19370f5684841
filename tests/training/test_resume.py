"""What was interrupted goes on to the same bytes; the order of the data is of the seed alone."""

import os

import pytest
import torch

from halobench.training.data import StageData
from tests.training.stages import align, curves, recipe_of, summary, weights

TWO_EPOCHS = ("budget.epochs=2", "execution.microbatch_tokens=400")  # six steps, several microbatches each


@pytest.fixture
def seen(monkeypatch):
    """The units of every step that was asked for, in order, as (index of the step, units)."""
    steps = []
    original = StageData.step

    def step(self, index, **ranks):
        steps.append((index, self.plan[index]))
        return original(self, index, **ranks)

    monkeypatch.setattr(StageData, "step", step)
    return steps


def stop_after(last):
    def report(phase, done, total):
        if phase == "align" and done == last:
            raise RuntimeError(f"pulled the plug after step {done}")

    return report


@pytest.mark.parametrize(
    ("loss", "interruptions"), [("dpo", (1,)), ("dpo", (3,)), ("kto", (3, 5)), ("offline_ppo", (4,))]
)
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    loss, interruptions, tiny_recipe, start, tmp_path, home, seen
):
    recipe = recipe_of(tiny_recipe, loss, *TWO_EPOCHS)
    whole = align(recipe, start, tmp_path / "whole", name="whole")
    order = list(seen)
    assert [index for index, _ in order] == [0, 1, 2, 3, 4, 5]

    first = 0
    for last in interruptions:
        seen.clear()
        with pytest.raises(RuntimeError, match=f"after step {last}"):
            align(recipe, start, tmp_path / "broken", stop_after(last))
        assert seen == order[first:last]
        first = last - last % 2  # the last checkpoint, they are two steps apart
    seen.clear()
    resumed = align(recipe, start, tmp_path / "resumed")
    assert seen == order[first:]

    for file in ("model.safetensors", "curves.parquet"):
        assert (resumed / file).read_bytes() == (whole / file).read_bytes(), file
    same = {key: value for key, value in summary(whole).items() if key != "seconds"}
    assert {key: value for key, value in summary(resumed).items() if key != "seconds"} == same
    assert list((home / "checkpoints").iterdir()) == []  # nothing is left behind


def test_an_interrupt_from_the_keyboard_stays_one(tiny_recipe, start, tmp_path):
    def report(phase, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align(recipe_of(tiny_recipe, "sft"), start, tmp_path / "out", report)
    assert not (tmp_path / "out" / "training.json").exists()


@pytest.fixture
def process_group():
    """Leaves no process group and no variables of one behind."""
    before = dict(os.environ)
    yield
    torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(("before", "after"), [("fsdp", "auto"), ("auto", "fsdp")])
def test_a_run_that_was_interrupted_can_be_finished_under_another_strategy(
    before, after, tiny_recipe, start, tmp_path
):
    def run_under(strategy):
        return recipe_of(
            tiny_recipe, "dpo", *TWO_EPOCHS, "precision=64-true", f"execution.strategy={strategy}"
        )

    with pytest.raises(RuntimeError, match="pulled the plug"):
        align(run_under(before), start, tmp_path / "out", stop_after(3))
    finished = align(run_under(after), start, tmp_path / "out")
    whole = weights(align(run_under("auto"), start, tmp_path / "whole", name="whole"))
    for name, tensor in weights(finished).items():
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=1e-10)


def test_curves_of_a_resumed_run_have_every_step_once(tiny_recipe, start, tmp_path):
    recipe = recipe_of(tiny_recipe, "kto", *TWO_EPOCHS)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        align(recipe, start, tmp_path / "out", stop_after(3))
    found = curves(align(recipe, start, tmp_path / "out"))
    losses = found[found["metric"] == "loss"]
    assert losses["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert losses["tokens"].is_monotonic_increasing


def test_the_second_epoch_has_the_same_pairs_in_another_order(tiny_recipe, start, tmp_path, seen):
    align(recipe_of(tiny_recipe, "dpo", *TWO_EPOCHS), start, tmp_path / "out")
    units = [unit for _, step in seen for unit in step]
    first, second = units[:24], units[24:]
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second


def test_every_loss_meets_the_same_pairs_in_the_same_steps_and_another_seed_does_not(
    tiny_recipe, start, tmp_path, seen
):
    orders = []
    for loss, seed in (("dpo", 0), ("slic", 0), ("kto", 0), ("dpo", 1)):
        seen.clear()
        align(recipe_of(tiny_recipe, loss, f"seed={seed}"), start, tmp_path / f"{loss}{seed}")
        orders.append(list(seen))
    assert orders[0] == orders[1] == orders[2]
    assert orders[3] != orders[0]
