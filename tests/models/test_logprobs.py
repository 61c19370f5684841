"""The scored forward: log-probabilities of rows, packed or padded, are those of each row alone."""

import random
from dataclasses import replace

import pytest
import torch

from halobench.data.rows import pack_rows, pad_rows
from halobench.models.logprobs import ScoredModel, ValueHead, predict
from tests.models.tiny import VOCABULARY, logps_by_hand, random_row, tiny_llama

LENGTHS = [(3, 5), (9, 1), (1, 8), (12, 4), (2, 1)]  # tokens of prompt and completion


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.fixture(scope="module")
def rows():
    stream = random.Random(0)
    return [random_row(stream, *lengths) for lengths in LENGTHS]


def scored_model(model, *, seed=0):
    return ScoredModel(model, ValueHead(16, seed=seed).double())


@pytest.mark.parametrize("lay_out", [pack_rows, pad_rows])
def test_log_probabilities_are_those_of_each_row_alone(model, rows, lay_out):
    with torch.no_grad():
        scored = ScoredModel(model)(lay_out(rows))
        assert scored.logps.shape == (5, 8)
        for found, mask, row in zip(scored.logps, scored.mask, rows, strict=True):
            assert mask.sum() == len(row.completion)
            torch.testing.assert_close(found[mask], logps_by_hand(model, row), rtol=0, atol=1e-12)
            assert (found[~mask] == 0).all()
    assert scored.values is None


def test_right_padding_changes_nothing_whatever_it_holds(model, rows):
    padded = pad_rows(rows)
    noise = torch.randint(VOCABULARY, padded.input_ids.shape, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([row.length for row in rows])
    is_token = torch.arange(padded.input_ids.shape[1]) < lengths[:, None]
    scorer = scored_model(model)
    with torch.no_grad():
        narrow = scorer(padded)
        noisy = scorer(replace(padded, input_ids=torch.where(is_token, padded.input_ids, noise)))
    torch.testing.assert_close(noisy.logps, narrow.logps, rtol=0, atol=1e-12)
    torch.testing.assert_close(noisy.values, narrow.values, rtol=0, atol=1e-12)


def test_logits_of_a_bfloat16_model_are_made_float32_before_they_are_normalised(model, rows):
    predictions = predict(tiny_llama(dtype=torch.bfloat16), pad_rows(rows))
    assert predictions.logits.dtype == predictions.logps.dtype == torch.float32
    # as distributions they are exact: bfloat16 would be off by 1e-2
    totals = predictions.logits.log_softmax(-1).exp().sum(-1)
    torch.testing.assert_close(totals, torch.ones_like(totals), rtol=0, atol=1e-5)


@pytest.mark.parametrize("lay_out", [pack_rows, pad_rows])
def test_the_critic_sends_no_gradient_into_the_trunk(rows, lay_out):
    scorer = scored_model(tiny_llama())
    scorer(lay_out(rows)).values.square().sum().backward()
    assert all(parameter.grad is None for parameter in scorer.model.parameters())
    assert all((parameter.grad != 0).any() for parameter in scorer.value_head.parameters())


@pytest.mark.parametrize("lay_out", [pack_rows, pad_rows])
def test_a_value_is_an_estimate_before_its_token_is_chosen(model, rows, lay_out):
    scorer = scored_model(model)
    row = rows[0]
    changed = row._replace(completion=(*row.completion[:2], 1 + row.completion[2] % 39, *row.completion[3:]))
    with torch.no_grad():
        before, after = scorer(lay_out([row, changed])).values
    torch.testing.assert_close(after[:3], before[:3], rtol=0, atol=1e-12)
    assert (after[3:] - before[3:]).abs().min() > 1e-6


@pytest.mark.parametrize("lay_out", [pack_rows, pad_rows])
def test_values_are_zero_at_padding_and_follow_from_their_seed(model, rows, lay_out):
    with torch.no_grad():
        first, again, other = (scored_model(model, seed=seed)(lay_out(rows)) for seed in (0, 0, 1))
    assert (first.values[~first.mask] == 0).all()
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)
