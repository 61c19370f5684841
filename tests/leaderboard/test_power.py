"""Power: what it is of the detectable difference, the table of the design, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from halobench.leaderboard.noise import Noise
from halobench.leaderboard.power import fewest_seeds, power
from halobench.leaderboard.stats import anova


@pytest.mark.parametrize(("seeds", "prompts"), [(3, 200), (5, 805), (20, 100)])
def test_the_detectable_difference_is_found_in_four_of_five_cases(seeds, prompts):
    noise = Noise(0.02, 0.3, 0.45)
    detectable = noise.estimate(0.0, seeds, prompts).detectable
    assert power(noise, detectable, seeds, prompts) == pytest.approx(0.8)
    assert power(noise, -detectable, seeds, prompts) == pytest.approx(0.8)


def test_without_a_difference_each_direction_is_claimed_in_one_of_forty():
    assert power(Noise(0.02, 0.3, 0.45), 0.0, 5, 500) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("seed_sd", "seeds", "points"),  # P = 500, sd .30 between prompts, .45 in a cell
    [(0.0, 10, 4.2), (0.02, 3, 7.2), (0.02, 5, 5.5), (0.02, 10, 4.6), (0.03, 5, 6.4)],
)
def test_detectable_points_of_win_rate(seed_sd, seeds, points):
    variance = seed_sd**2 / seeds + 0.09 / 500 + 0.2025 / (500 * seeds)
    expected = Noise(seed_sd, 0.3, 0.45).estimate(0.0, seeds, 500)
    assert expected.stderr == pytest.approx(math.sqrt(variance))
    assert 100 * expected.detectable == pytest.approx(points, abs=0.05)


@pytest.mark.parametrize("seeds", [3, 5])
def test_power_is_how_often_a_difference_is_found(seeds):
    noise, replicates = Noise(0.03, 0.2, 0.4), 1500
    difference = noise.estimate(0.0, seeds, 100).detectable
    stream = np.random.default_rng(seeds)
    found = 0
    for _ in range(replicates):
        table = stream.normal(0, 0.03, (seeds, 1)) + stream.normal(0, 0.2, 100)
        found += anova(difference + table + stream.normal(0, 0.4, (seeds, 100))).interval()[0] > 0
    # 2.6 standard errors of the simulation, and what estimating the degrees of freedom costs
    assert found / replicates == pytest.approx(0.8, abs=2.6 * math.sqrt(0.16 / replicates) + 0.03)


def test_the_shifted_t_is_near_the_exact_one():
    for df, error in ((4, 0.01), (2, 0.035)):
        shift = stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)
        assert 0 <= 0.8 - stats.nct.sf(stats.t.ppf(0.975, df), df, shift) < error


@pytest.mark.parametrize(("difference", "prompts"), [(0.02, 2000), (0.05, 500), (0.05, 2000), (0.2, 500)])
def test_the_fewest_seeds_are_enough_and_one_fewer_is_not(difference, prompts):
    noise = Noise(0.02, 0.3, 0.45)
    seeds = fewest_seeds(noise, difference, prompts)
    assert power(noise, difference, seeds, prompts) >= 0.8
    assert seeds == 2 or power(noise, difference, seeds - 1, prompts) < 0.8


def test_no_number_of_seeds_makes_up_for_too_few_prompts():
    # sd .3 between prompts: with 200 of them the error never falls below .0212, and .02 is less than that
    assert fewest_seeds(Noise(0.02, 0.3, 0.45), 0.02, 200) is None


def test_what_does_not_vary_is_always_found():
    assert power(Noise(0.0, 0.0, 0.0), 0.01, 3, 10) == 1
    assert power(Noise(0.0, 0.0, 0.0), 0.0, 3, 10) == 0
