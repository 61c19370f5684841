"""KTO: section 4.1 of arXiv:2402.01306, proposition 4.1, its numerics."""

import math

import pytest
import torch

import halobench as hb
from tests.losses.batches import sequence


def kto(log_ratio, desirable, *, z0=0.0, dtype=torch.float64, **parameters):
    batch = hb.Binary(
        completion=sequence(log_ratio, dtype=dtype),
        desirable=torch.tensor(desirable),
        z0=torch.tensor(z0, dtype=torch.float64),
    )
    return hb.LOSSES["kto"](**parameters)(batch)


def gradient(log_ratio, desirable, *, dtype=torch.float64, **parameters):
    ratio = torch.tensor(log_ratio, dtype=dtype, requires_grad=True)
    kto(ratio, desirable, **parameters).losses.sum().backward()
    return ratio.grad.tolist()


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_the_loss_is_half_the_weight_when_policy_is_reference():
    output = kto([0.0, 0.0, 0.0], [True, False, False], lambda_d=1.5, lambda_u=0.8)
    assert output.losses.tolist() == [0.75, 0.4, 0.4]
    assert output.losses.mean().item() == pytest.approx((1.5 + 0.8 + 0.8) / 3 / 2)


def test_a_gain_over_the_reference_point_helps_desirable_and_hurts_undesirable():
    # beta (r - z0) = 0.5 (4 - 1) = 1.5 for both
    losses = kto([4.0, 4.0], [True, False], z0=1.0, beta=0.5).losses.tolist()
    assert losses == pytest.approx([sigmoid(-1.5), sigmoid(1.5)], rel=1e-12)


@pytest.mark.parametrize("log_ratio", [-30.0, -1.0, 0.25, 2.0, 40.0])
@pytest.mark.parametrize(("desirable", "sign", "weight"), [(True, 1, 1.5), (False, -1, 0.8)])
def test_gradient_is_that_of_the_paper(log_ratio, desirable, sign, weight):
    # dL/dr = -s lambda beta sigmoid(u) sigmoid(-u), u = beta (r - z0)
    gain = 0.2 * (log_ratio - 0.25)
    expected = -sign * weight * 0.2 * sigmoid(gain) * sigmoid(-gain)
    found = gradient([log_ratio], [desirable], z0=0.25, beta=0.2, lambda_d=1.5, lambda_u=0.8)
    assert found == pytest.approx([expected], rel=1e-12)


@pytest.mark.parametrize("desirable", [True, False])
def test_gradient_vanishes_far_from_the_reference_point_on_both_sides(desirable):
    slopes = gradient([-1e4, -300.0, 0.5, 301.0, 1e4], [desirable] * 5, z0=0.5)
    sizes = [abs(slope) for slope in slopes]
    assert sizes[2] == pytest.approx(0.1 / 4)  # the peak, at r = z0
    assert sizes[1] == pytest.approx(sizes[3], rel=1e-9)  # symmetric about it
    assert 0 < sizes[1] < 1e-13
    assert sizes[0] == sizes[4] == pytest.approx(0, abs=1e-300)


def test_gradient_survives_float32_where_one_minus_sigmoid_would_lose_it():
    # autograd of 1 - sigmoid(20) is exactly 0 in float32; sigmoid(-20) keeps e^-20 = 2.06e-9, times beta
    found = gradient([200.0], [True], dtype=torch.float32)
    assert found == pytest.approx([-0.1 * math.exp(-20)], rel=1e-5)


def test_reward_is_beta_times_the_log_ratio_without_the_reference_point():
    assert kto([3.0, -1.0], [True, False], z0=2.0, beta=0.5).rewards.tolist() == [1.5, -0.5]


def test_reading_z0_without_one_says_what_to_do():
    batch = hb.Binary(completion=sequence([0.0]), desirable=torch.tensor([True]))
    with pytest.raises(hb.RecipeError, match=r"z0 .* needs_z0 = True"):
        hb.LOSSES["kto"]()(batch)


@pytest.mark.parametrize(
    ("ratio", "counts", "weights"),
    [
        (4 / 3, (10, 100), (40 / 3, 1)),  # the paper's 13.33 for a tenth of the desirable
        ("kto_paper_v1", (10, 100), (40 / 3, 1)),
        ("kto_paper_v4", (10, 100), (15, 1)),
        (1, (50, 50), (1, 1)),
        (1, (100, 10), (1, 10)),
        (1.5, (100, 100), (1.5, 1)),
        (0.5, (30, 30), (1, 2)),
    ],
)
def test_the_rarer_label_makes_up_for_its_number(ratio, counts, weights):
    loss = hb.LOSSES["kto"](beta=0.3, lambda_ratio=ratio).fitted(*counts)
    assert (loss.lambda_d, loss.lambda_u) == pytest.approx(weights)
    assert loss.beta == 0.3


def test_weights_that_are_given_stay():
    loss = hb.LOSSES["kto"](lambda_d=2.0, lambda_u=0.5)
    assert loss.fitted(1, 1000) is loss


def test_a_ratio_and_weights_contradict_each_other():
    with pytest.raises(hb.RecipeError, match="lambda_ratio sets lambda_d and lambda_u; leave them out"):
        hb.LOSSES["kto"](lambda_ratio=1.0, lambda_d=2.0)


@pytest.mark.parametrize("counts", [(0, 5), (5, 0)])
def test_a_ratio_needs_both_labels(counts):
    with pytest.raises(hb.DataError, match="and it needs both; leave it out"):
        hb.LOSSES["kto"](lambda_ratio=1.0).fitted(*counts)


def test_a_ratio_without_counts_is_no_weight():
    loss = hb.LOSSES["kto"](lambda_ratio=1.0)
    ratio = torch.zeros(1, 1)
    batch = hb.Binary(
        completion=hb.Logps(policy=ratio, reference=ratio, mask=torch.ones(1, 1, dtype=torch.bool)),
        desirable=torch.tensor([True]),
        z0=torch.tensor(0.0),
    )
    with pytest.raises(ValueError, match="before fitted"):
        loss(batch)
