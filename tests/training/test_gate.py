"""The check at step 0: training from the reference starts at log ratios of zero, or not at all."""

import numpy as np
import pytest
import torch

import halobench as hb
from halobench.errors import TrainingError
from halobench.sections import Optim
from halobench.storage import file_digest
from tests.training.fitting import fit, random_units, split
from tests.training.stages import align, recipe_of, summary


@pytest.fixture
def every_warning():
    """Show what torch warns of each time, and not only the first time in a process."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


def corrupt(files, nats):
    """Make them another model's, soundly written."""
    for file in files:
        values = np.load(file)
        values[::5] -= nats
        np.save(file, values)
        file.with_name("sha256").write_text(file_digest(file))


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("microbatch_tokens", [100, 300, 2048])
def test_a_fresh_start_passes_in_every_precision_and_microbatch(
    precision, microbatch_tokens, tiny_recipe, start, tmp_path
):
    settings = (f"precision={precision}", f"execution.microbatch_tokens={microbatch_tokens}")
    for loss in ("dpo", "kto"):
        output = align(recipe_of(tiny_recipe, loss, *settings), start, tmp_path / loss)
        assert summary(output)["status"] == "completed"


@pytest.mark.usefixtures("every_warning")
@pytest.mark.parametrize("loss", ["dpo", "kto", "offline_ppo"])
def test_a_cache_of_other_log_probabilities_stops_the_run_with_one_line(
    loss, tiny_recipe, start, tmp_path, home
):
    recipe = recipe_of(tiny_recipe, loss)
    align(recipe, start, tmp_path / "first")
    corrupt(home.glob("reference/*/logps.npy"), 0.5)
    with pytest.raises(TrainingError, match=r"^step 0: the cached reference .* disagree") as caught:
        align(recipe, start, tmp_path / "second")
    assert "\n" not in str(caught.value)
    assert "halobench clean" in str(caught.value)
    assert not (tmp_path / "second" / "model.safetensors").exists()


def test_the_mismatched_completions_behind_z0_are_checked_too(tiny_recipe, start, tmp_path, home):
    align(recipe_of(tiny_recipe, "dpo"), start, tmp_path / "dpo")
    shared = set(home.glob("reference/*/logps.npy"))
    align(recipe_of(tiny_recipe, "kto"), start, tmp_path / "kto")
    mismatched = set(home.glob("reference/*/logps.npy")) - shared
    assert len(shared) == len(mismatched) == 1  # dpo and kto share the log-probabilities of the same rows
    corrupt(mismatched, 0.5)
    with pytest.raises(TrainingError, match="step 0"):
        align(recipe_of(tiny_recipe, "kto"), start, tmp_path / "again")


@pytest.mark.parametrize("loss", ["sft", "csft", "slic"])
def test_a_loss_without_a_reference_makes_none(loss, tiny_recipe, start, tmp_path, home):
    align(recipe_of(tiny_recipe, loss), start, tmp_path / "out")
    assert not (home / "reference").exists()


def test_a_policy_that_is_not_its_reference_is_refused_only_where_a_reference_is_used():
    steps = split(random_units(4, seed=0, offset=0.2), None, 4, 10**6)  # a reference 0.2 nats a token off
    optim = Optim(lr=1e-3)
    with pytest.raises(TrainingError, match="step 0"):
        fit(hb.LOSSES["dpo"](), steps, optim, starts_at_reference=True)
    fit(hb.LOSSES["slic"](), steps, optim, starts_at_reference=True)
    fit(hb.LOSSES["dpo"](), steps, optim, starts_at_reference=False)
