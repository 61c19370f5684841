"""SLiC: a hinge on summed log-probabilities, held by likelihood."""

import pytest
import torch

import halobench as hb
from tests.losses.batches import sequence


def slic(chosen, rejected, **parameters):
    pair = hb.Pairs(chosen=sequence(None, policy=chosen), rejected=sequence(None, policy=rejected))
    return hb.LOSSES["slic"](**parameters)(pair)


def gradients(chosen, rejected, **parameters):
    leaves = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (chosen, rejected)]
    slic(*leaves, **parameters).losses.sum().backward()
    return [leaf.grad.item() for leaf in leaves]


@pytest.mark.parametrize(
    ("rejected", "expected"),
    [
        (-12.0, 0.0 + 1.0),  # leads by 2 > delta: only 0.1 x 10 nats of likelihood
        (-11.0, 0.0 + 1.0),  # the kink
        (-10.5, 0.5 + 1.0),
        (-7.0, 4.0 + 1.0),
    ],
)
def test_the_hinge_counts_what_is_missing_of_the_margin(rejected, expected):
    losses = slic([-10.0], [rejected], delta=1.0, nll_weight=0.1).losses
    assert losses.item() == pytest.approx(expected, rel=1e-14)


def test_gradient_beyond_the_kink_is_that_of_the_likelihood_alone():
    assert gradients(-10.0, -12.0, delta=1.0, nll_weight=0.25) == [-0.25, 0]
    assert gradients(-10.0, -10.5, delta=1.0, nll_weight=0.25) == [-1.25, 1]


def test_without_nll_weight_a_pair_that_leads_by_the_margin_costs_nothing():
    assert slic([-10.0], [-20.0], nll_weight=0.0).losses.tolist() == [0]
    assert gradients(-10.0, -20.0, nll_weight=0.0) == [0, 0]
