"""The fused path: gradients of every loss are those of the plain padded computation in float64."""

import random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import halobench as hb
from halobench.data.batches import Row, make_step
from halobench.models import logprobs
from halobench.models.logprobs import ScoredModel
from halobench.sections import Optim
from halobench.training.module import AlignmentModule
from halobench.training.objective import Sums
from tests.models.tiny import VOCABULARY, tiny_llama
from tests.training.fitting import critic

BUILT_IN = ["csft", "dpo", "kto", "offline_ppo", "sft", "slic"]
ALL_ROWS = 10**6


class Coupled(hb.Loss):
    """A loss whose examples depend on each other: the square of the sum of the log ratios."""

    separable = False

    def __call__(self, batch: hb.Pairs) -> hb.LossOutput:
        gain = batch.chosen.log_ratio - batch.rejected.log_ratio
        return hb.LossOutput(losses=(gain.sum() * gain / 100))


def loss_named(name):
    return Coupled() if name == "coupled" else hb.LOSSES[name]()


def gradient(loss, step, dtype=torch.float64, config=None):
    """Gradient of a whole step over all parameters, policy before critic, without an optimizer."""
    module = AlignmentModule(
        loss,
        lambda: ScoredModel(
            tiny_llama(dtype=dtype, **(config or {})), critic().to(dtype) if loss.value_head else None
        ),
        Optim(lr=1.0),
        num_steps=1,
        starts_at_reference=False,
    )
    alone = SimpleNamespace(reduce=lambda value, reduce_op: value)
    module._trainer = SimpleNamespace(world_size=1, global_step=1, strategy=alone)
    module.configure_model()
    constants, sums = module._constants(step), Sums()
    for part in step.microbatches:
        objective = module._objective(step, part, constants, module._denominator(step), sums)
        module.policy(
            part.rows, objective=objective, mismatched=part.mismatched if part.goes_on else None
        ).backward()
    return torch.cat([parameter.grad.double().flatten() for parameter in module.policy.parameters()])


def random_units(stream, kind, groups):
    """Units over a few prompts; `groups` says how many completions each prompt has, and how long they are."""
    units, mismatched = [], []
    for lengths in groups:
        prompt = tuple(stream.randrange(1, VOCABULARY) for _ in range(stream.randint(1, 9)))
        for length in lengths:
            unit = [random_row(stream, prompt, length, True), random_row(stream, prompt, 3, False)]
            others = [random_row(stream, prompt, stream.randint(1, 6), True, offset=1.0) for _ in unit]
            if kind != "Pairs":
                keep = slice(0, 1) if kind == "Demonstrations" or stream.random() < 0.5 else slice(1, 2)
                unit, others = unit[keep], others[keep]
            units.append(tuple(unit))
            mismatched.append(tuple(others))
    return units, mismatched


def random_row(stream, prompt, length, desirable, offset=0.0):
    tokens = tuple(stream.randrange(1, VOCABULARY) for _ in range(length))
    reference = torch.tensor([stream.gauss(-4 - offset, 1.0) for _ in tokens])
    return Row(prompt, tokens, desirable, reference.numpy())


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", [*BUILT_IN, "coupled"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    groups=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=4), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    chunk=st.sampled_from([1, 9, 10**6]),
)
def test_gradients_are_those_of_the_plain_computation_in_float64(name, groups, seed, chunk):
    loss = loss_named(name)
    units, others = random_units(random.Random(seed), loss.view().__name__, groups)
    mismatched = others if loss.uses_z0 else None

    def step(packed, max_tokens):
        return make_step(units, mismatched, max_tokens=max_tokens, packed=packed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logprobs, "_CHUNK_LOGITS", {"cpu": chunk * VOCABULARY})
        exact = gradient(loss, step(False, ALL_ROWS))
        assume(exact.norm() > 1e-8)
        naive = relative_error(gradient(loss, step(False, ALL_ROWS), torch.float32), exact)
        # a coupled loss is one of the whole microbatch, so only the others may be divided
        budgets = [ALL_ROWS] if name == "coupled" else [ALL_ROWS, 25]
        for max_tokens in budgets:
            assert relative_error(gradient(loss, step(True, max_tokens)), exact) < 1e-6
            found = gradient(loss, step(True, max_tokens), torch.float32)
            assert relative_error(found, exact) <= max(5e-6, 2 * naive)


@pytest.mark.parametrize("desirable", [True, False])
@pytest.mark.parametrize("name", ["kto", "offline_ppo", "csft"])
def test_batches_of_one_class(name, desirable):
    stream, loss = random.Random(3), hb.LOSSES[name]()
    rows = [random_row(stream, (1 + i % 2, 5), 4, desirable) for i in range(6)]
    others = [random_row(stream, row.prompt, 2, True) for row in rows]
    units, mismatched = [(row,) for row in rows], [(row,) for row in others] if loss.uses_z0 else None
    packed, padded = (
        gradient(loss, make_step(units, mismatched, max_tokens=ALL_ROWS, packed=p)) for p in (True, False)
    )
    assert relative_error(packed, padded) < 1e-6


@pytest.mark.parametrize(
    "config", [{"tie_word_embeddings": False}, {"num_attention_heads": 4, "num_key_value_heads": 2}]
)
@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_untied_heads_and_grouped_queries(name, config):
    loss = hb.LOSSES[name]()
    units, others = random_units(random.Random(5), loss.view().__name__, [[3, 1], [70], [2, 9, 4]])
    mismatched = others if loss.uses_z0 else None
    packed, padded = (
        gradient(loss, make_step(units, mismatched, max_tokens=ALL_ROWS, packed=p), config=config)
        for p in (True, False)
    )
    assert relative_error(packed, padded) < 1e-6


def test_a_rank_without_rows_has_a_gradient_of_zero():
    row = random_row(random.Random(0), (1, 2), 3, True)
    idle = make_step([(row,)], [(row,)], max_tokens=ALL_ROWS, rank=1, num_ranks=2)
    found = gradient(hb.LOSSES["kto"](), idle)
    assert torch.equal(found, torch.zeros_like(found))
