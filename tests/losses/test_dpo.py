"""DPO: equation 7 of arXiv:2305.18290, its gradient, its limits."""

import math

import pytest
import torch

import halobench as hb
from tests.losses.batches import sequence


def dpo(chosen, rejected, beta=0.1):
    return hb.LOSSES["dpo"](beta=beta)(hb.Pairs(chosen=sequence(chosen), rejected=sequence(rejected)))


@pytest.mark.parametrize("beta", [0.01, 0.1, 5.0])
def test_the_loss_is_ln_2_when_policy_is_reference(beta):
    assert dpo([0.0, 0.0], [0.0, 0.0], beta).losses.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-15)


def test_gradient_raises_chosen_and_lowers_rejected_by_the_same():
    chosen, rejected = (
        torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (3.0, 1.0)
    )
    dpo(chosen, rejected).losses.sum().backward()
    expected = 0.1 / (1 + math.exp(0.1 * (3 - 1)))  # beta sigmoid(-beta delta)
    assert chosen.grad.item() == pytest.approx(-expected, rel=1e-12)
    assert rejected.grad.item() == pytest.approx(expected, rel=1e-12)


def test_a_shift_of_both_log_ratios_of_a_prompt_changes_nothing():
    plain, shifted = dpo([2.0], [-1.0]), dpo([5.0], [2.0])
    assert shifted.losses.item() == pytest.approx(plain.losses.item(), abs=1e-15)


def test_the_loss_of_a_hopeless_pair_is_linear_and_not_infinite():
    # -log sigmoid(-x) = x + log(1 + exp(-x))
    assert dpo([-1e5], [1e5]).losses.item() == pytest.approx(0.1 * 2e5, rel=1e-15)
    assert dpo([1e5], [-1e5]).losses.item() == pytest.approx(0, abs=1e-300)


def test_rewards_are_beta_times_the_log_ratios_of_chosen_and_rejected():
    assert dpo([3.0, 1.0], [1.0, -2.0], beta=0.5).rewards.tolist() == [[1.5, 0.5], [0.5, -1.0]]
