"""Trends: the slope per doubling, its difference between losses, and where non-inferiority ends."""

import math

import numpy as np
import pytest

from halobench.leaderboard.stats import anova
from halobench.leaderboard.trends import breakdown, interaction, slope_weights, trend

NOISE = np.array([[0.01, -0.02, 0.03, 0.0], [0.02, 0.01, -0.01, -0.03], [-0.01, 0.03, 0.0, 0.02]])


def test_slope_weights_by_hand():
    # log2 of 1, 2, 8 is 0, 1, 3; centred -4/3, -1/3, 5/3, squares add up to 42/9
    expected = [-4 / 3 / (42 / 9), -1 / 3 / (42 / 9), 5 / 3 / (42 / 9)]
    assert slope_weights([1, 2, 8]) == pytest.approx(expected)


def test_a_slope_is_that_of_least_squares():
    stream = np.random.default_rng(2)
    tables = {place: stream.normal(0, 1, (3, 5)) for place in (0.05, 0.1, 0.5, 1.0)}
    means = [table.mean() for table in tables.values()]
    assert trend(tables).mean == pytest.approx(np.polyfit(np.log2(list(tables)), means, 1)[0])


def test_a_straight_line_has_its_slope_and_only_the_noise_varies():
    # .5 - .03 log2 x, with noise at the far end of two places only: d = -.03 + noise / log2(8)
    levels = {1: np.full((3, 4), 0.5), 8: 0.5 - 0.09 + NOISE}
    estimate, expected = trend(levels), anova(NOISE / 3)
    assert estimate.mean == pytest.approx(-0.03 + NOISE.mean() / 3)
    assert estimate.stderr == pytest.approx(expected.stderr)
    assert estimate.df == pytest.approx(expected.df)


def test_the_order_of_the_places_does_not_matter():
    levels = {1: NOISE, 2: 2 * NOISE, 4: NOISE - 1}
    assert trend(levels).mean == pytest.approx(trend(dict(sorted(levels.items(), reverse=True))).mean)


def test_an_interaction_is_the_difference_of_slopes_with_common_noise_gone():
    # both losses meet the same luck at every seed and prompt: it cancels, but for what A has of its own
    luck = {place: np.random.default_rng(place).normal(0, 1, (3, 4)) for place in (1, 4)}
    first = {1: luck[1], 4: luck[4] + 0.2 + NOISE}
    second = {1: luck[1], 4: luck[4] - 0.2}
    estimate = interaction(first, second)
    assert estimate.mean == pytest.approx((0.4 + NOISE.mean()) / 2)
    assert estimate.stderr == pytest.approx(anova(NOISE / 2).stderr)


def test_a_planted_interaction_is_found_and_a_parallel_one_is_not():
    def losses(slope_a, slope_b, seed):
        stream = np.random.default_rng(seed)
        difficulty = stream.normal(0, 0.3, 200)
        return [
            {
                place: 0.5
                + slope * math.log2(place)
                + difficulty
                + stream.normal(0, 0.02, (6, 1))
                + stream.normal(0, 0.2, (6, 200))
                for place in (1, 2, 4, 8)
            }
            for slope in (slope_a, slope_b)
        ]

    low, high = interaction(*losses(-0.02, -0.08, 1)).interval()
    assert 0 < low < 0.06 < high
    low, high = interaction(*losses(-0.05, -0.05, 2)).interval()
    assert low < 0 < high


def test_non_inferiority_holds_up_to_the_first_place_that_fails():
    falls = {1: 0.0, 2: -0.005, 4: -0.01, 8: -0.2, 16: 0.0}
    noise = NOISE - NOISE.mean()
    levels = {place: 0.5 + fall + (0 if place == 1 else 0.1) * noise for place, fall in falls.items()}
    assert breakdown(levels, 1, 0.02) == 4  # 16:1 would pass, but 8:1 failed before
    assert breakdown(levels, 1, 0.001) is None
    assert breakdown({1 / place: table for place, table in levels.items()}, 1, 0.02) == 1 / 4


@pytest.mark.parametrize("axis", [[1.0], [2, 2], [0, 1], [-1, 1], [1, math.inf]])
def test_an_axis_without_a_slope_is_refused(axis):
    with pytest.raises(ValueError, match="needs positive values, at least two different ones"):
        slope_weights(axis)


def test_places_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="same seeds and prompts at every place"):
        trend({1: NOISE, 2: NOISE[:2]})
    with pytest.raises(ValueError, match="same places for both"):
        interaction({1: NOISE, 2: NOISE}, {1: NOISE, 4: NOISE})
    with pytest.raises(ValueError, match="reference 2 on one end"):
        breakdown({1: NOISE, 2: NOISE, 4: NOISE}, 2, 0.02)
