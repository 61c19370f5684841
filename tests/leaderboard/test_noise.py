"""Variance components of a difference: what each explains, and what more seeds or prompts would buy."""

import math

import numpy as np
import pytest

from halobench.leaderboard.noise import Noise, steadied
from halobench.leaderboard.stats import Estimate, anova

# seeds by prompts; every component is positive, so that none was cut off at 0
TABLE = np.array([[1.0, 2, 3, 4], [5, 5, 7, 7], [1, 3, 3, 6]])


def test_the_same_seeds_and_prompts_give_the_error_of_the_table_itself():
    estimate = anova(TABLE)
    expected = Noise.of([estimate]).estimate(estimate.mean, 3, 4)
    assert expected.stderr == pytest.approx(estimate.stderr)
    assert expected.df == pytest.approx(estimate.df)


def test_the_error_of_other_seeds_and_prompts_by_hand():
    # .04^2 / 4 + .3^2 / 100 + .5^2 / 400 = .0004 + .0009 + .000625
    noise = Noise(0.04, 0.3, 0.5)
    expected = noise.estimate(0.1, 4, 100)
    assert expected.stderr == pytest.approx(math.sqrt(0.001925))
    assert expected.mean == 0.1
    # mean squares 100 * .0016 + .25 = .41, 4 * .09 + .25 = .61, .25; numerator .77
    df = 0.77**2 / (0.41**2 / 3 + 0.61**2 / 99 + 0.25**2 / 297)
    assert expected.df == pytest.approx(df)
    assert noise.shares(4, 100) == pytest.approx((0.0004 / 0.001925, 0.0009 / 0.001925, 0.000625 / 0.001925))


def test_pooling_averages_variances():
    estimates = [Noise(0.3, 0.1, 0.0).estimate(0.0, 3, 5), Noise(0.4, 0.7, 0.2).estimate(0.0, 3, 5)]
    pooled = Noise.of(estimates)
    assert pooled.seed_sd == pytest.approx(math.sqrt((0.09 + 0.16) / 2))
    assert pooled.prompt_sd == pytest.approx(math.sqrt((0.01 + 0.49) / 2))
    assert pooled.residual_sd == pytest.approx(math.sqrt(0.04 / 2))


def test_more_of_what_varies_helps_more():
    assert Noise(0.1, 0.0, 0.1).more_of(3, 100) == "seeds"
    assert Noise(0.0, 0.5, 0.1).more_of(10, 100) == "prompts"


def test_what_does_not_vary_has_no_shares():
    noise = Noise(0.0, 0.0, 0.0)
    assert all(math.isnan(share) for share in noise.shares(3, 100))
    assert noise.estimate(0.0, 3, 100).stderr == 0


def test_components_are_recovered_from_a_large_table():
    stream = np.random.default_rng(5)
    seeds, prompts = stream.normal(0, 0.2, (60, 1)), stream.normal(0, 0.3, 400)
    found = Noise.of([anova(seeds + prompts + stream.normal(0, 0.5, (60, 400)))])
    assert found.seed_sd == pytest.approx(np.std(seeds, ddof=1), abs=0.01)
    assert found.prompt_sd == pytest.approx(np.std(prompts, ddof=1), abs=0.01)
    assert found.residual_sd == pytest.approx(0.5, abs=0.01)


def test_degrees_of_freedom_in_a_family_are_at_most_those_of_its_pooled_noise():
    # S = 5, P = 101; one comparison shows seeds alone, one prompts alone, and together half of either
    of_seeds = Estimate(0.0, 0.02, 4.0, 5, 101, seed_sd=0.04, prompt_sd=0.0, residual_sd=0.0)
    of_prompts = Estimate(0.0, 0.02, 100.0, 5, 101, seed_sd=0.0, prompt_sd=0.2, residual_sd=0.0)
    # MS_S = 101 * .0008 = .0808, MS_P = 5 * .02 = .1; (.1808)^2 / (.0808^2 / 4 + .1^2 / 100) = 18.87
    capped = steadied([of_seeds, of_prompts])
    assert [estimate.df for estimate in capped] == pytest.approx([4.0, 18.8716], abs=1e-3)
    assert [(e.mean, e.stderr) for e in capped] == [(0.0, 0.02), (0.0, 0.02)]
    assert steadied([of_prompts]) == [of_prompts]


def test_a_difference_that_does_not_vary_pools_nothing():
    constant = Estimate(0.1, 0.0, 1.0, 5, 101, 0.0, 0.0, 0.0)
    of_seeds = Estimate(0.0, 0.02, 4.0, 5, 101, seed_sd=0.04, prompt_sd=0.0, residual_sd=0.0)
    assert steadied([constant]) == [constant]
    assert steadied([constant, of_seeds]) == [constant, of_seeds]
