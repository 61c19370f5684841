"""IQM, P(improvement) and profiles: by hand, reproducible, refused for few seeds, and that they cover."""

import numpy as np
import pytest
from scipy import stats

from halobench.leaderboard.bootstrap import iqm, p_improvement, profile
from halobench.leaderboard.stats import anova


def flat(*means, prompts=3):
    """A table whose seeds have these means, without any noise between prompts."""
    return np.repeat(np.array(means)[:, None], prompts, axis=1)


def noisy(seed, mean=0.5, *, seeds=5, prompts=200, seed_sd=0.05):
    stream = np.random.default_rng(seed)
    return mean + stream.normal(0, seed_sd, (seeds, 1)) + stream.normal(0, 0.3, (seeds, prompts))


def test_the_interquartile_mean_by_hand():
    # eight runs: .1 .2 .3 .4 | .5 .6 .7 .9, without the lowest two and the highest two
    tables = [flat(0.1, 0.9, 0.3, 0.4), flat(0.5, 0.6, 0.7, 0.2)]
    assert iqm(tables, "x").value == pytest.approx((0.3 + 0.4 + 0.5 + 0.6) / 4)
    assert iqm(tables, "x").value == pytest.approx(
        stats.trim_mean([0.1, 0.9, 0.3, 0.4, 0.5, 0.6, 0.7, 0.2], 0.25)
    )


def test_the_probability_of_improvement_by_hand():
    # first setting: .3 beats .1 and .2, .2 beats .1 and ties .2: 3.5 of 4; second: A never wins
    pairs = [(flat(0.3, 0.2), flat(0.1, 0.2)), (flat(0.1, 0.1), flat(0.5, 0.6))]
    assert p_improvement(pairs, "x").value == pytest.approx((3.5 / 4 + 0) / 2)
    first, second = noisy(1), noisy(2, seeds=7)
    u = stats.mannwhitneyu(first.mean(1), second.mean(1)).statistic
    assert p_improvement([(first, second)], "x").value == pytest.approx(u / 35)


def test_runs_that_win_equally_often_tie():
    # the same wins in another order: the sums of thirds differ in their last bits
    first = np.array([[1 / 3, 0.1, 0.7]])
    assert p_improvement([(first, first[:, ::-1])], "x").value == 0.5


def test_a_profile_falls_from_one_to_zero():
    tables = [flat(0.1, 0.2, 0.3, 0.4, 0.5), flat(0.3, 0.3, 0.3, 0.3, 0.9)]
    values = [entry.value for entry in profile(tables, [0.0, 0.25, 0.3, 0.6, 0.95], "x")]
    # above .25: 3 of 5 and 5 of 5; above .3: 2 and 1; above .6: 0 and 1
    assert values == pytest.approx([1.0, 0.8, 0.3, 0.1, 0.0])


def test_the_same_analysis_gives_the_same_interval_and_another_one_another():
    first = iqm([noisy(1)], "quickstart/kto")
    assert iqm([noisy(1)], "quickstart/kto") == first
    assert iqm([noisy(1)], "quickstart/dpo")[1:3] != first[1:3]
    assert first.low < first.value < first.high


def test_fewer_than_five_seeds_have_no_interval():
    found = iqm([noisy(1), noisy(2, seeds=4)], "x")
    assert (found.low, found.high) == (None, None)
    assert found.reason == "4 of 5 seeds: too few to draw from"
    assert found.value == iqm([noisy(1), noisy(2, seeds=4)], "y").value


def test_what_is_beyond_doubt_is_certain():
    found = p_improvement([(noisy(1, 0.9), noisy(2, 0.1))], "x")
    assert found == (1.0, 1.0, 1.0, "")


def test_prompts_are_drawn_once_for_both_sides():
    # B is A but for a hair, so whatever prompts are drawn A wins; drawn apart, it would win half the time
    table = np.tile(np.random.default_rng(4).normal(0.5, 0.3, 50), (5, 1))
    assert p_improvement([(table + 1e-6, table)], "x")[:3] == (1.0, 1.0, 1.0)


def test_seeds_and_prompts_both_widen_the_interval():
    # without an interval of its own the mean stands in: trimming nothing of 5 equal seeds leaves the prompts
    same_seeds = np.tile(np.random.default_rng(4).normal(0.5, 0.3, 100), (5, 1))
    found = iqm([same_seeds], "x")
    spread = same_seeds[0].std() / 10
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(spread, rel=0.1)
    same_prompts = flat(0.1, 0.3, 0.5, 0.7, 0.9)
    assert iqm([same_prompts], "x").low < 0.4 < 0.6 < iqm([same_prompts], "x").high


def test_a_nominal_95_percent_interval_covers():
    # The trimmed mean of symmetric seeds is .5. A coverage of .94 is measured below .89 once in 200 times.
    covered = 0
    for index in range(200):
        found = iqm([noisy(100 + index, seeds=10, prompts=60)], str(index))
        covered += found.low <= 0.5 <= found.high
    assert covered / 200 >= 0.89
    # and it is not so wide as to say nothing
    assert found.high - found.low < 2 * np.ptp(anova(noisy(299, seeds=10, prompts=60)).interval())
