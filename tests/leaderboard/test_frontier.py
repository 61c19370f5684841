"""Win rate against KL: interpolation within a seed, paired differences at the same KL, the Pareto front."""

import numpy as np
import pytest

from halobench.leaderboard.frontier import Point, at_kl, compare_at_kl, pareto
from halobench.leaderboard.stats import anova


def test_a_seed_is_interpolated_prompt_by_prompt():
    # a quarter of the way from 2 to 6 nats: .75 * (.2, .4) + .25 * (.6, 0)
    points = [Point(6.0, np.array([0.6, 0.0])), Point(2.0, np.array([0.2, 0.4])), Point(9.0, np.ones(2))]
    assert at_kl(points, 3.0) == pytest.approx([0.3, 0.3])
    assert at_kl(points, 2.0) == pytest.approx([0.2, 0.4])
    assert at_kl(points, 9.0) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("kl", [1.9, 9.1])
def test_nothing_is_extrapolated(kl):
    assert at_kl([Point(2.0, np.zeros(2)), Point(9.0, np.ones(2))], kl) is None


def test_a_single_run_is_known_at_its_own_kl_only():
    assert at_kl([Point(2.0, np.ones(2))], 2.0) == pytest.approx([1, 1])
    assert at_kl([Point(2.0, np.ones(2))], 2.1) is None


def test_losses_are_compared_at_the_same_kl_though_no_run_is_there():
    # both lie on one line: A's runs went farther and won more, but at the same KL they are equal
    stream = np.random.default_rng(3)
    noise = {seed: stream.normal(0, 0.1, 20) for seed in range(4)}

    def line(*kls, gain=0.0):
        return {seed: [Point(kl, 0.1 * kl + gain + noise[seed]) for kl in kls] for seed in noise}

    same = compare_at_kl(line(3.0, 5.0), line(1.0, 4.0), 3.5)
    assert same.estimate.mean == pytest.approx(0, abs=1e-12)
    assert (same.seeds, same.out_of_reach) == ((0, 1, 2, 3), ())
    above = compare_at_kl(line(3.0, 5.0, gain=0.05), line(1.0, 4.0), 3.5)
    assert above.estimate.mean == pytest.approx(0.05)


def test_the_error_is_that_of_the_interpolated_differences():
    stream = np.random.default_rng(4)
    first, second = (stream.normal(0.5, 0.2, (3, 2, 10)) for _ in range(2))

    def runs(tables):
        return {s: [Point(1.0, tables[s, 0]), Point(2.0, tables[s, 1])] for s in range(3)}

    found = compare_at_kl(runs(first), runs(second), 1.25).estimate
    expected = anova(0.75 * (first[:, 0] - second[:, 0]) + 0.25 * (first[:, 1] - second[:, 1]))
    assert (found.mean, found.stderr, found.df) == pytest.approx(
        (expected.mean, expected.stderr, expected.df)
    )


def test_seeds_that_do_not_reach_the_kl_are_counted():
    near, far = ([Point(1.0, np.zeros(3)), Point(end, np.ones(3))] for end in (2.0, 8.0))
    found = compare_at_kl({0: near, 1: far, 2: far, 5: far}, {0: far, 1: far, 2: far, 4: far}, 4.0)
    assert (found.seeds, found.out_of_reach) == ((1, 2), (0,))
    nowhere = compare_at_kl({0: near, 1: far}, {0: far, 1: far}, 4.0)
    assert (nowhere.estimate, nowhere.seeds, nowhere.out_of_reach) == (None, (1,), (0,))


def test_the_front_leaves_out_what_is_beaten():
    places = [(3, 0.5), (1, 0.3), (2, 0.2), (2, 0.4), (4, 0.5), (5, 0.9), (1, 0.3)]
    assert pareto(places) == [(1, 0.3), (2, 0.4), (3, 0.5), (5, 0.9)]
    assert pareto([]) == []
