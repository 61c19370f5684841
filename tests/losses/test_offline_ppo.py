"""Offline PPO: advantages, value targets, clipping, KL terms, and the presets of the published codes."""

import math
import re
from dataclasses import replace

import pytest
import torch

import halobench as hb

UNWHITENED = [1.0, 0.0, 1.0]  # number of tokens, sum and sum of squares that leave advantages as they are


def ppo(**parameters):
    return hb.LOSSES["offline_ppo"](**parameters)


def batch(log_ratio, values, desirable, lengths=None, *, statistics=UNWHITENED, dtype=torch.float64):
    """Completions with these log ratios and values per token; leaves of the gradient."""
    policy, values = (torch.tensor(rows, dtype=dtype, requires_grad=True) for rows in (log_ratio, values))
    width = policy.shape[1]
    completion = hb.Logps(
        policy=policy,
        reference=torch.zeros_like(policy),
        mask=torch.arange(width) < torch.tensor(lengths or [width] * len(log_ratio))[:, None],
        values=values,
    )
    given = None if statistics is None else torch.tensor(statistics, dtype=torch.float64)
    return hb.Binary(completion=completion, desirable=torch.tensor(desirable), statistics=given)


def gradients(loss, given):
    loss(given).losses.sum().backward()
    return [leaf.grad.tolist() for leaf in (given.completion.policy, given.completion.values)]


@pytest.mark.parametrize(
    ("parameters", "targets"),
    [
        ({"gamma": 0.99}, [0.9801, 0.99, 1.0]),
        ({"gamma": 0.99, "own_reward": False}, [0.99, 1.0, 0.0]),
        ({"preset": "legacy"}, [0.99, 1.0, 0.0]),
        ({"preset": "main"}, [0.9801, 0.99, 1.0]),
        ({"preset": "v1"}, [0.9801, 0.99, 1.0]),
        ({}, [1.0, 1.0, 1.0]),
    ],
)
@pytest.mark.parametrize(("desirable", "sign"), [(True, 1), (False, -1)])
def test_value_targets_are_discounted_rewards(parameters, targets, desirable, sign):
    # the critic's error (V - G)^2 / 2 has the slope V - G, and V = 0
    loss = ppo(**{"value_weight": 1.0} | parameters)
    _, slopes = gradients(loss, batch([[0.0] * 3], [[0.0] * 3], [desirable]))
    assert slopes[0] == pytest.approx([-sign * target for target in targets], rel=1e-12)


@pytest.mark.parametrize(
    ("parameters", "advantages"),
    [
        # R - V_t, with R = 1 and V = .1 .2 .3
        ({}, [0.9, 0.8, 0.7]),
        # errors r + .99 V_next - V = .098 .097 .7; A_t = error + .9405 A_next
        ({"gamma": 0.99, "gae_lambda": 0.95}, [0.808406675, 0.75535, 0.7]),
        ({"lambda_d": 3.0}, [2.9, 2.8, 2.7]),
    ],
)
def test_advantages_are_generalised_and_push_the_policy(parameters, advantages):
    # at ratio 1 the surrogate -A q has the slope -A
    slopes, _ = gradients(ppo(**parameters), batch([[0.0] * 3], [[0.1, 0.2, 0.3]], [True]))
    assert slopes[0] == pytest.approx([-advantage for advantage in advantages], rel=1e-7)


def test_the_reward_of_an_undesirable_completion_is_minus_lambda_u_at_its_own_last_token():
    # two tokens and padding: A_1 = -2 - .2, A_0 = (.5 x .2 - .1) + .5 x .5 A_1
    given = batch([[0.0] * 3], [[0.1, 0.2, 9.0]], [False], lengths=[2])
    slopes, _ = gradients(ppo(lambda_u=2.0, gamma=0.5, gae_lambda=0.5), given)
    assert slopes[0] == pytest.approx([0.55, 2.2, 0], rel=1e-7)


@pytest.mark.parametrize(
    ("preset", "low", "high"),
    [("default", 0.25, 4.0), ("v1", 0.25, 4.0), ("legacy", 0.5, 2.0), ("main", 0.5, 1.5)],
)
def test_clip_interval_of_each_preset(preset, low, high):
    loss = ppo(preset=preset, kl="none")
    ratios = [low - 0.01, low + 0.01, high - 0.01, high + 0.01]
    given = {
        desirable: batch([[math.log(q)] for q in ratios], [[0.0]] * 4, [desirable] * 4)
        for desirable in (True, False)
    }
    # A = 1: gains end at the upper clip; A = -1: at the lower. Slope -A q elsewhere.
    up, _ = gradients(loss, given[True])
    down, _ = gradients(loss, given[False])
    assert [row[0] for row in up] == pytest.approx([*(-q for q in ratios[:3]), 0], rel=1e-7)
    assert [row[0] for row in down] == pytest.approx([0, *ratios[1:]], rel=1e-7)
    assert loss(given[True]).metrics["clipped_fraction"].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        ("none", 0.0),
        ("ratio", 2 * math.log(2) - 2 + 1),  # q rho - q + 1 at q = 2
        ("log_ratio", math.log(2)),
        ("negative_log_ratio", -math.log(2)),
    ],
)
def test_kl_terms(kl, expected):
    # no reward and no value: nothing else contributes
    given = batch([[math.log(2)]], [[0.0]], [True])
    losses = ppo(kl=kl, kl_weight=0.5, lambda_d=0.0)(given).losses
    assert losses.item() == pytest.approx(0.5 * expected, abs=1e-12)


def test_statistics_count_tokens_and_sum_advantages():
    # R - V: row 1: .9 .8; row 2, one token: -1.3
    given = batch([[0.0, 0.0]] * 2, [[0.1, 0.2], [0.3, 7.0]], [True, False], [2, 1], statistics=None)
    expected = [3, 0.9 + 0.8 - 1.3, 0.81 + 0.64 + 1.69]
    assert ppo().statistics(given).tolist() == pytest.approx(expected, rel=1e-12)


def test_halves_with_the_statistics_of_the_whole_have_the_losses_of_the_whole():
    ratios = [[0.1, -0.2, 0.3], [0.5, 0.0, -0.1], [-0.4, 0.2, 0.1], [0.0, 0.1, 0.2]]
    values = [[0.1, 0.2, 0.3], [0.0, -0.1, 0.4], [0.2, 0.2, 0.2], [-0.3, 0.1, 0.0]]
    labels, lengths = [True, True, False, False], [3, 2, 1, 3]
    loss = ppo()
    whole = batch(ratios, values, labels, lengths, statistics=None)
    statistics = loss.statistics(whole)
    halves = [
        batch(*(part[half] for part in (ratios, values, labels, lengths)), statistics=None)
        for half in (slice(0, 2), slice(2, 4))
    ]
    assert sum(loss.statistics(half) for half in halves).tolist() == pytest.approx(statistics.tolist())
    found = [loss(replace(half, statistics=statistics)).losses for half in halves]
    torch.testing.assert_close(torch.cat(found), loss(replace(whole, statistics=statistics)).losses)


def test_a_small_case_agrees_with_plain_python():
    ratios, values = [[0.3, 2.0, -0.1], [-3.0, 0.2, 0.0]], [[0.1, -0.2, 0.3], [0.4, 0.1, 0.0]]
    lengths, rewards, gamma, decay = [3, 2], [1.5, -0.5], 0.9, 0.8
    advantages, targets = [], []
    for value, length, reward in zip(values, lengths, rewards, strict=True):
        following, advantage, own, target = 0.0, 0.0, [], []
        for t in reversed(range(length)):
            error = (reward if t == length - 1 else 0.0) + gamma * following - value[t]
            advantage = error + gamma * decay * advantage
            following = value[t]
            own.insert(0, advantage)
            target.insert(0, reward * gamma ** (length - 1 - t))
        advantages.append(own)
        targets.append(target)
    flat = [a for own in advantages for a in own]
    mean = sum(flat) / 5
    spread = math.sqrt(sum((a - mean) ** 2 for a in flat) / 5)
    expected = []
    for rho, value, own, target in zip(ratios, values, advantages, targets, strict=True):
        total = 0.0
        for t, a in enumerate(own):
            white, q = (a - mean) / spread, math.exp(rho[t])
            total += max(-white * q, -white * min(max(q, 0.25), 4.0))
            total += 0.01 * (value[t] - target[t]) ** 2 / 2 + 0.1 * (q * rho[t] - q + 1)
        expected.append(total)

    given = batch(ratios, values, [True, False], lengths, statistics=None)
    loss = ppo(gamma=gamma, gae_lambda=decay, kl="ratio", lambda_d=1.5, lambda_u=0.5)
    output = loss(replace(given, statistics=loss.statistics(given)))
    assert output.losses.tolist() == pytest.approx(expected, rel=1e-6)
    assert output.rewards.tolist() == pytest.approx([0.3 + 2.0 - 0.1, -3.0 + 0.2], rel=1e-12)


@pytest.mark.parametrize("kl", ["none", "ratio", "log_ratio", "negative_log_ratio"])
def test_gradients_are_finite_at_huge_log_ratios(kl):
    # exp(1000) is infinite in float64 too, and a clipped zero times infinity would be NaN
    rows = [[1000.0], [-1000.0], [1000.0], [-1000.0]]
    given = batch(rows, [[0.0]] * 4, [True, True, False, False], dtype=torch.float32)
    output = ppo(kl=kl)(given)
    assert output.losses.isfinite().all()
    slopes, _ = gradients(ppo(kl=kl), given)
    assert all(math.isfinite(row[0]) for row in slopes)


def test_the_critic_does_not_learn_from_the_policy_s_objective_nor_the_policy_from_the_critic_s():
    given = batch([[0.1, 0.2]], [[0.3, -0.4]], [True])
    slopes, of_values = gradients(ppo(value_weight=0.0), given)
    assert of_values == [[0, 0]]
    again = batch([[0.1, 0.2]], [[0.3, -0.4]], [True])
    assert gradients(ppo(value_weight=5.0), again)[0] == slopes


def test_a_parameter_beside_a_preset_wins():
    loss = ppo(preset="legacy", clip_high=3.0, gamma=1.0)
    assert (loss.clip_low, loss.clip_high, loss.gamma, loss.gae_lambda) == (0.5, 3.0, 1.0, 0.95)
    assert (loss.kl, loss.own_reward) == ("negative_log_ratio", False)
    assert (ppo().gamma, ppo().gae_lambda, ppo().kl) == (1.0, 1.0, "none")


def test_a_first_token_with_hardly_any_credit_is_warned_of():
    # (.99 x .95)^50 = .047 < .1, and of 30 tokens .16
    with pytest.warns(UserWarning, match=re.escape("first of 50 tokens gets 0.05 of the reward")):
        ppo(preset="v1").statistics(batch([[0.0] * 50], [[0.0] * 50], [True]))
    ppo(preset="v1").statistics(batch([[0.0] * 30], [[0.0] * 30], [True]))
    ppo().statistics(batch([[0.0] * 50], [[0.0] * 50], [True]))


@pytest.mark.parametrize("missing", ["statistics", "values"])
def test_reading_what_the_batch_does_not_have_says_so(missing):
    given = batch([[0.0]], [[0.0]], [True])
    if missing == "statistics":
        given = replace(given, statistics=None)
    else:
        given = replace(given, completion=replace(given.completion, values=None))
    with pytest.raises(hb.RecipeError, match=f"offline_ppo reads {missing}"):
        ppo()(given)


def test_the_step_divides_by_tokens_and_brings_a_critic():
    loss = ppo()
    assert loss.per == "token"
    assert loss.value_head
    assert loss.needs_reference
    assert not loss.uses_z0
