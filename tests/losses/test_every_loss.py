"""What holds for every loss that comes with halobench."""

import pytest
import torch

import halobench as hb
from tests.losses.batches import BUILTIN, batch_for, random_logps, take, widen

NUM_ROWS = 6
DESIRABLE = torch.tensor([True, False, True, True, False, False])

every_loss = pytest.mark.parametrize("loss", [hb.LOSSES[name]() for name in BUILTIN], ids=BUILTIN)


def sides():
    return random_logps(NUM_ROWS, seed=0), random_logps(NUM_ROWS, seed=1, width=4)


def test_the_six_losses_of_the_paper_come_with_halobench():
    assert BUILTIN == ["csft", "dpo", "kto", "offline_ppo", "sft", "slic"]


@every_loss
def test_losses_and_gradients_are_finite_and_unreduced(loss):
    first, second = sides()
    output = loss(batch_for(loss, first, second, DESIRABLE))
    assert output.losses.shape == (NUM_ROWS,)
    assert output.losses.isfinite().all()
    (gradient,) = torch.autograd.grad(output.losses.sum(), first.policy)
    assert gradient.isfinite().all()
    assert (gradient[first.mask] != 0).any()
    assert (gradient[~first.mask] == 0).all()


@every_loss
def test_padding_does_not_change_the_loss(loss):
    first, second = sides()
    narrow = loss(batch_for(loss, first, second, DESIRABLE))
    wide = loss(batch_for(loss, widen(first, 3), widen(second, 2), DESIRABLE))
    torch.testing.assert_close(wide.losses, narrow.losses, rtol=1e-13, atol=0)
    if narrow.rewards is not None:
        torch.testing.assert_close(wide.rewards, narrow.rewards, rtol=1e-13, atol=0)


@every_loss
def test_permuting_the_examples_permutes_the_losses(loss):
    first, second = sides()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    straight = loss(batch_for(loss, first, second, DESIRABLE)).losses
    permuted = loss(batch_for(loss, take(first, order), take(second, order), DESIRABLE[order])).losses
    torch.testing.assert_close(permuted, straight[order], rtol=1e-12, atol=0)
    assert len(set(straight.tolist())) == NUM_ROWS  # otherwise nothing is shown


@every_loss
def test_rewards_and_metrics_carry_no_gradient(loss):
    output = loss(batch_for(loss, *sides(), DESIRABLE))
    shown = [*output.metrics.values(), *([] if output.rewards is None else [output.rewards])]
    assert output.losses.requires_grad
    assert not any(tensor.requires_grad for tensor in shown)


@pytest.mark.parametrize("name", ["csft", "sft", "slic"])
def test_losses_without_a_reference_need_none(name):
    loss = hb.LOSSES[name]()
    first, second = (
        hb.Logps(policy=side.policy, reference=None, mask=side.mask, values=side.values) for side in sides()
    )
    assert not loss.needs_reference
    assert loss(batch_for(loss, first, second, DESIRABLE)).losses.isfinite().all()
