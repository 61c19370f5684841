"""Every loss gives the published values on the same four pairs (float64, beta 0.1 unless given)."""

import pytest
import torch

import halobench as hb

# log-probabilities in nats of four pairs: policy and reference, chosen and rejected
CHOSEN = ([-10, -20.5, -35, -8.25], [-11, -20, -38, -8], [5, 10, 20, 4])
REJECTED = ([-15, -18, -50, -9.5], [-14, -19, -45, -9.75], [6, 9, 25, 5])
# mean log ratio of the mismatched completions: policy [-60, -55, -70, -40],
# reference [-61, -54.5, -71.25, -40.5]
Z0 = (1 - 0.5 + 1.25 + 0.5) / 4


def logps(policy, reference, num_tokens):
    return hb.Logps.from_sequence(
        policy=torch.tensor(policy, dtype=torch.float64),
        reference=torch.tensor(reference, dtype=torch.float64),
        num_tokens=torch.tensor(num_tokens),
    )


def pairs():
    return hb.Pairs(chosen=logps(*CHOSEN), rejected=logps(*REJECTED))


def binary():
    both = [first + second for first, second in zip(CHOSEN, REJECTED, strict=True)]
    desirable = torch.tensor([True] * 4 + [False] * 4)
    return hb.Binary(completion=logps(*both), desirable=desirable, z0=torch.tensor(Z0, dtype=torch.float64))


# Values of TRL 1.10's and ContextualAI/HALOs' own code on these inputs; both agree to 1e-16 where they have
# the loss.
@pytest.mark.parametrize(
    ("loss", "batch", "expected"),
    [
        (hb.LOSSES["dpo"](), pairs(), [0.59813887, 0.77095705, 0.37110067, 0.71845965]),
        (hb.LOSSES["slic"](delta=1.0, nll_weight=0.1), pairs(), [1, 5.55, 3.5, 0.825]),
        (
            hb.LOSSES["kto"](),
            binary(),
            [0.48906424, 0.52653754, 0.43936243, 0.52030133, 0.46101678, 0.51093576, 0.36441558, 0.49218814],
        ),
        (
            hb.LOSSES["kto"](lambda_d=4 / 3),
            binary(),
            [0.65208566, 0.70205005, 0.58581657, 0.69373511, 0.46101678, 0.51093576, 0.36441558, 0.49218814],
        ),
    ],
    ids=["dpo", "slic", "kto", "kto-lambda_d"],
)
def test_loss_gives_the_published_values(loss, batch, expected):
    losses = loss(batch).losses
    assert losses.dtype == torch.float64
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=5e-9)
