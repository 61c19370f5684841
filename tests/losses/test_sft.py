"""SFT and CSFT: negative log-likelihoods, summed over tokens, averaged over those of the step."""

import pytest
import torch

import halobench as hb

# three completions of 3, 1 and 2 tokens
POLICY = [[-1.0, -2.0, -3.0], [-0.5, 9.0, 9.0], [-4.0, -0.25, 9.0]]
SUMS = [6.0, 0.5, 4.25]


def completions():
    mask = torch.arange(3) < torch.tensor([[3], [1], [2]])
    return hb.Logps(policy=torch.tensor(POLICY), reference=None, mask=mask)


def batch_of(name):
    if name == "sft":
        return hb.Demonstrations(completion=completions())
    return hb.Conditional(completion=completions(), desirable=torch.tensor([True, False, True]))


@pytest.mark.parametrize("name", ["sft", "csft"])
def test_the_loss_is_the_sum_over_tokens(name):
    assert hb.LOSSES[name]()(batch_of(name)).losses.tolist() == SUMS


@pytest.mark.parametrize("name", ["sft", "csft"])
def test_the_step_divides_by_tokens_and_no_reference_is_needed(name):
    loss = hb.LOSSES[name]()
    assert loss.per == "token"
    assert not loss.needs_reference
    assert not loss.uses_z0


def test_csft_brings_its_two_control_tokens_and_sft_none():
    assert hb.LOSSES["csft"].control_tokens == ("<good>", "<bad>")
    assert hb.LOSSES["sft"].control_tokens == ()


@pytest.mark.parametrize("score_control", [False, True])
def test_the_control_token_of_csft_is_scored_only_on_request(score_control):
    assert hb.LOSSES["csft"](score_control=score_control).scores_control_token is score_control
    assert hb.LOSSES["csft"]().scores_control_token is False
