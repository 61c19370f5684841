"""AlignmentModule: its optimizer step is the step of the whole batch, whatever the microbatches."""

import math

import pytest
import torch
from torch.nn.functional import softplus

import halobench as hb
from halobench.data.batches import make_step
from halobench.sections import Optim
from tests.models.tiny import logps_by_hand, tiny_llama
from tests.training.fitting import (
    ADAM_EPSILON,
    adam_step,
    chosen_only,
    critic,
    curve,
    fit,
    parameters,
    random_units,
    split,
)

NUM_UNITS = 5
ONE_ROW = 1  # token per microbatch: every unit gets one of its own
ALL_ROWS = 10**6
# A clipped gradient far below Adam's epsilon: the update is proportional to it and not only to its sign.
OPTIM = Optim(lr=0.1, clip=1e-7, weight_decay=0.01)

UNITS = random_units(NUM_UNITS, seed=0)
MISMATCHED = random_units(NUM_UNITS, seed=1, offset=-0.1)


def log_ratio(model, row):
    return (logps_by_hand(model, row) - torch.tensor(row.reference)).sum()


def reference_point(model, units):
    with torch.no_grad():
        ratios = torch.stack([log_ratio(model, row) for unit in units for row in unit])
    return ratios.mean().clamp(min=0)


def dpo_by_hand(model, head):
    margins = [log_ratio(model, chosen) - log_ratio(model, rejected) for chosen, rejected in UNITS]
    return sum(softplus(-0.1 * margin) for margin in margins) / NUM_UNITS


def kto_by_hand(model, head, z0s=None):
    z0s = z0s or [reference_point(model, MISMATCHED)] * NUM_UNITS
    total = 0
    for (good, bad), z0 in zip(UNITS, z0s, strict=True):
        total = total + torch.sigmoid(-0.1 * (log_ratio(model, good) - z0))
        total = total + torch.sigmoid(0.1 * (log_ratio(model, bad) - z0))
    return total / (2 * NUM_UNITS)


def kto_by_unit(model, head):
    z0s = [reference_point(model, [unit]) for unit in MISMATCHED]
    assert 0 < sum(z0 > 0 for z0 in z0s) < NUM_UNITS  # the clamp is of each microbatch too
    return kto_by_hand(model, head, z0s)


def sft_by_hand(model, head):
    logps = torch.cat([logps_by_hand(model, unit[0]) for unit in UNITS])
    return -logps.mean()  # over all tokens of the step


def offline_ppo_by_hand(model, head):
    ratios, advantages, errors = [], [], []
    for row in (row for unit in UNITS for row in unit):
        first, last = len(row.prompt), row.length
        output = model(torch.tensor([[*row.prompt, *row.completion]]), output_hidden_states=True)
        values = head(output.hidden_states[-1][:, first - 1 : last - 1])[0]
        reward = 1 if row.desirable else -1
        advantages.append(reward - values.detach())  # gamma = lambda = 1
        errors.append((values - reward).square() / 2)
        ratios.append((logps_by_hand(model, row) - torch.tensor(row.reference)).exp())
    advantage, ratio = torch.cat(advantages), torch.cat(ratios)
    white = (advantage - advantage.mean()) / (advantage.var(correction=0) + 1e-8).sqrt()
    surrogate = torch.maximum(-white * ratio, -white * ratio.clamp(0.25, 4))
    return surrogate.mean() + 0.01 * torch.cat(errors).mean()


CASES = {
    "sft": (sft_by_hand, chosen_only(UNITS), None, {}),
    "dpo": (dpo_by_hand, UNITS, None, {}),
    "kto": (kto_by_hand, UNITS, MISMATCHED, {}),
    "kto-microbatch": (kto_by_unit, UNITS, MISMATCHED, {"z0_per_microbatch": True}),
    "offline_ppo": (offline_ppo_by_hand, UNITS, None, {}),
}


def assert_same(found, expected, atol):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=atol)


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_step_by_hand(name):
    by_hand, units, mismatched, options = CASES[name]
    loss = hb.LOSSES[name.partition("-")[0]]()
    module = fit(loss, split(units, mismatched, NUM_UNITS, ONE_ROW), OPTIM, **options)

    model, head = tiny_llama(), critic()
    value = by_hand(model, head)
    expected = adam_step(list(model.parameters()), value, OPTIM)
    if loss.value_head:  # the critic is clipped apart from the policy
        expected += adam_step(list(head.parameters()), by_hand(model, head), OPTIM)
    assert_same(parameters(module), expected, atol=1e-11)
    assert curve(module, "loss") == pytest.approx([value.item()], rel=1e-7)
    assert curve(module, "grad_norm")[0] > 1000 * OPTIM.clip


@pytest.mark.parametrize("name", ["sft", "dpo", "kto", "offline_ppo"])
def test_microbatches_do_not_change_the_steps(name):
    _, units, mismatched, _ = CASES[name]
    loss, optim = hb.LOSSES[name](), Optim(lr=1e-2, clip=0.5)
    few, many = (
        fit(loss, split(units, mismatched, 2, max_tokens), optim) for max_tokens in (ALL_ROWS, ONE_ROW)
    )
    assert_same(parameters(many), parameters(few), atol=1e-10)
    moved = max(
        (one - two.detach()).abs().max().item()
        for one, two in zip(parameters(few), tiny_llama().parameters(), strict=False)
    )
    assert moved > 1e-3
    for metric in ("loss", "grad_norm", "z0", "reward_accuracy", "reward_desirable"):
        assert curve(many, metric) == pytest.approx(curve(few, metric), rel=1e-9)


@pytest.mark.parametrize("name", ["sft", "csft", "kto", "offline_ppo"])
def test_a_step_that_holds_only_repeats_changes_nothing(name):
    loss = hb.LOSSES[name]()
    empty = make_step([()], [()] if loss.uses_z0 else None, max_tokens=ALL_ROWS)
    module = fit(loss, [empty], Optim(lr=0.1))
    begin = [*tiny_llama().parameters(), *(critic().parameters() if loss.value_head else ())]
    assert_same(parameters(module), [tensor.detach() for tensor in begin], atol=0)
    assert curve(module, "loss") == [0]


def test_z0_is_the_mean_log_ratio_of_the_mismatched_completions_of_the_step():
    z0 = reference_point(tiny_llama(), MISMATCHED).item()
    assert z0 > 0.1
    module = fit(hb.LOSSES["kto"](), split(UNITS, MISMATCHED, NUM_UNITS, ONE_ROW), OPTIM)
    assert curve(module, "z0") == pytest.approx([z0], rel=1e-9)


def test_z0_is_never_negative():
    below = random_units(NUM_UNITS, seed=1, offset=0.5)
    module = fit(hb.LOSSES["kto"](), split(UNITS, below, NUM_UNITS, ONE_ROW), OPTIM)
    assert curve(module, "z0") == [0]


def test_curves_show_means_over_the_step():
    module = fit(hb.LOSSES["dpo"](beta=0.5), split(UNITS, None, NUM_UNITS, 40), OPTIM)
    with torch.no_grad():
        ratios = [[0.5 * log_ratio(tiny_llama(), row).item() for row in unit] for unit in UNITS]
    chosen, rejected = zip(*ratios, strict=True)
    assert curve(module, "reward_chosen") == pytest.approx([sum(chosen) / NUM_UNITS], rel=1e-9)
    assert curve(module, "reward_rejected") == pytest.approx([sum(rejected) / NUM_UNITS], rel=1e-9)
    wins = sum(good > bad for good, bad in ratios)
    assert 0 < wins < NUM_UNITS
    assert curve(module, "reward_accuracy") == [wins / NUM_UNITS]


def test_rewards_of_kto_are_shown_by_label():
    module = fit(hb.LOSSES["kto"](), split(UNITS, MISMATCHED, NUM_UNITS, 40), OPTIM)
    with torch.no_grad():
        good, bad = (
            sum(0.1 * log_ratio(tiny_llama(), unit[side]).item() for unit in UNITS) for side in (0, 1)
        )
    assert curve(module, "reward_desirable") == pytest.approx([good / NUM_UNITS], rel=1e-9)
    assert curve(module, "reward_undesirable") == pytest.approx([bad / NUM_UNITS], rel=1e-9)


def test_the_learning_rate_warms_up_peaks_and_falls_to_its_final_fraction():
    steps = split(chosen_only(UNITS[:1]) * 100, None, 1, ONE_ROW)
    optim = Optim(lr=0.5, warmup_fraction=0.1, final_fraction=0.02)
    module = fit(hb.LOSSES["sft"](), steps, optim)
    rates = [rate / 0.5 for rate in curve(module, "lr")]
    assert len(rates) == 100
    # ten steps of warm-up, each a tenth more; then ninety equal steps down towards zero
    assert rates[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert module.optimizers().param_groups[0]["lr"] == pytest.approx(0.02 * 0.5)


def test_the_update_of_a_clipped_step_is_bounded():
    # Adam's first update is lr g / (|g| + epsilon), of norm below lr clip / epsilon
    clip = 1e-9
    module = fit(hb.LOSSES["dpo"](), split(UNITS, None, NUM_UNITS, ALL_ROWS), Optim(lr=0.1, clip=clip))
    moved = math.sqrt(
        sum(
            (after - before.detach()).square().sum().item()
            for after, before in zip(parameters(module), tiny_llama().parameters(), strict=True)
        )
    )
    bound = 0.1 * clip / ADAM_EPSILON
    assert 0.5 * bound < moved <= bound
    assert curve(module, "grad_norm")[0] > 1e6 * clip  # of the gradient as it was
