"""Rows without common seeds: each brings its own luck, prompts stay paired; by hand, and measured."""

import math

import numpy as np
import pytest

from halobench.leaderboard.noise import Noise
from halobench.leaderboard.stats import anova
from halobench.leaderboard.unpaired import unpaired

FIRST = np.array([[1.0, 2, 3, 4], [2, 2, 4, 4], [1, 3, 3, 6]])
SECOND = np.array([[0.0, 1, 1, 2], [3, 3, 2, 4]])


def test_the_error_by_hand():
    # seed means of A 10/4, 12/4, 13/4: variance 7/48; of B 1, 3: variance 2
    # prompt means of A 4/3, 7/3, 10/3, 14/3, of B 3/2, 2, 3/2, 3; A - B -1/6, 2/6, 11/6, 10/6:
    # mean 11/12, squared deviations (169 + 49 + 121 + 81) / 144 = 35/12, variance 35/36
    # residuals: A 7/12 (see test_stats); B has deviations -1/2, 0, 1/2, 0 and their opposites: 1 / 3
    seeds, prompts, rest = 7 / 48 / 3 + 2 / 2, 35 / 36 / 4, 7 / 12 / 12 + 1 / 3 / 8
    found = unpaired(FIRST, SECOND)
    assert found.mean == pytest.approx(35 / 12 - 2)
    assert found.stderr == pytest.approx(math.sqrt(seeds + prompts - rest))
    df = (seeds + prompts - rest) ** 2 / sum(
        (
            (7 / 48 / 3) ** 2 / 2,
            (2 / 2) ** 2 / 1,
            prompts**2 / 3,
            (7 / 12 / 12) ** 2 / 6,
            (1 / 3 / 8) ** 2 / 3,
        )
    )
    assert found.df == pytest.approx(df)
    assert (found.num_seeds, found.num_prompts) == (2, 4)


def test_its_components_give_its_error_again():
    stream = np.random.default_rng(0)
    tables = [stream.normal(0, 0.2, (size, 1)) + stream.normal(0, 0.3, (size, 50)) for size in (4, 4)]
    found = unpaired(*tables)
    again = Noise.of([found]).estimate(found.mean, found.num_seeds, found.num_prompts)
    assert again.stderr == pytest.approx(found.stderr)


def test_the_error_is_never_below_that_of_seeds_or_of_prompts_alone():
    luck = np.array([[1.0], [2], [4]]) * np.ones(5)
    found = unpaired(luck, np.zeros((2, 5)))
    assert found.stderr == pytest.approx(math.sqrt(7 / 3 / 3))  # the variance of 1, 2, 4 is 7/3
    assert found.df == pytest.approx(2)


def test_what_does_not_vary_has_no_interval():
    assert unpaired(np.full((3, 4), 0.1), np.full((2, 4), 0.7)).stderr == 0


def test_a_table_of_one_seed_is_refused():
    with pytest.raises(ValueError, match="needs a complete table of at least 2 x 2"):
        unpaired(FIRST, SECOND[:1])


@pytest.mark.parametrize("sizes", [(5, 5), (3, 10)])
def test_nominal_95_percent_intervals_cover_at_least_94(sizes):
    # other seeds, as in the A/A control: true difference 0; below .94 - 2.6 errors once in 200 times
    replicates, covered, widths = 1500, 0, []
    stream = np.random.default_rng(sizes)
    for _ in range(replicates):
        shared = stream.normal(0, 0.3, 80)
        tastes, lucks = stream.normal(0, 0.05, (2, 80)), [stream.normal(0, 0.03, (s, 1)) for s in sizes]
        a, b = (
            shared + taste + stream.normal(luck, 0.2, (len(luck), 80))
            for taste, luck in zip(tastes, lucks, strict=True)
        )
        low, high = unpaired(a, b).interval()
        covered += low <= 0 <= high
        depth = min(sizes)
        widths.append([high - low, np.ptp(anova(a[:depth] - b[:depth]).interval())])
    assert covered / replicates >= 0.94 - 2.6 * math.sqrt(0.94 * 0.06 / replicates)
    ours, in_order = np.mean(widths, axis=0)
    print(covered / replicates, ours, in_order)
    assert ours < 0.95 * in_order  # narrower than pairing seeds that have nothing in common
