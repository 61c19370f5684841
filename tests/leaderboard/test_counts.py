"""Published counts: Fisher's exact test, its family, the interval, the word for what counts cannot say."""

import math
from math import comb

import pytest
from scipy import stats

from halobench.leaderboard.counts import (
    NOT_RESOLVABLE,
    compare_counts,
    compare_family,
    detectable_difference,
    difference_interval,
)

# KTO and DPO without SFT, wins of 512, from Pythia 1.4B to Llama 30B (Ethayarajh et al. 2024, Archangel)
KTO_AGAINST_DPO = [
    (18, 512, 18, 512),
    (36, 512, 44, 512),
    (48, 512, 42, 512),
    (41, 512, 47, 512),
    (210, 512, 158, 512),
    (240, 512, 213, 512),
    (340, 512, 274, 512),
]


def fisher_by_hand(wins_a, total_a, wins_b, total_b):
    """Sum the chances of the tables with the same margins that are no likelier than the one seen."""
    wins = wins_a + wins_b
    possible = range(max(0, wins - total_b), min(wins, total_a) + 1)
    ways = {k: comb(total_a, k) * comb(total_b, wins - k) for k in possible}
    return sum(n for n in ways.values() if n <= ways[wins_a]) / comb(total_a + total_b, wins)


@pytest.mark.parametrize("counts", [(8, 10, 3, 10), (84, 256, 158, 512), (0, 7, 3, 5)])
def test_the_p_value_sums_the_tables_that_are_no_likelier(counts):
    assert compare_counts(*counts).p == pytest.approx(fisher_by_hand(*counts), rel=1e-9)


def test_eight_of_ten_against_three_of_ten_is_not_enough():
    comparison = compare_counts(8, 10, 3, 10)
    assert comparison.difference == pytest.approx(0.5)
    assert not comparison.separated


def test_the_papers_own_counts_within_their_family():
    # Holm over 7 scales: the smallest p-value (30B) counts 7 times, the next (7B) 6, the next (13B) 5 times
    family = compare_family(KTO_AGAINST_DPO)
    single = [fisher_by_hand(*counts) for counts in KTO_AGAINST_DPO]
    assert [entry.separated for entry in family] == [False] * 4 + [True, False, True]
    expected = [6 * single[4], 5 * single[5], 7 * single[6]]
    assert [entry.p for entry in family[4:]] == pytest.approx(expected)
    words = [entry.verdict(0.02) for entry in family]
    assert words == [NOT_RESOLVABLE] * 4 + ["better", NOT_RESOLVABLE, "better"]


def test_a_tenth_of_the_desirable_examples_against_dpo_cannot_be_resolved():
    # the paper's headline of imbalance: 84 of 256 prompts against 158 of 512
    comparison = compare_counts(84, 256, 158, 512)
    assert comparison.p == pytest.approx(0.62, abs=0.005)
    assert comparison.verdict(0.02) == NOT_RESOLVABLE


def test_the_interval_adds_the_errors_of_both_rates_in_squares():
    # Clopper-Pearson from quantiles of the beta distribution: 6 of 20 and 15 of 20
    a_low, a_high = stats.beta.ppf(0.025, 6, 15), stats.beta.ppf(0.975, 7, 14)
    b_low, b_high = stats.beta.ppf(0.025, 15, 6), stats.beta.ppf(0.975, 16, 5)
    low = -0.45 - math.sqrt((0.3 - a_low) ** 2 + (b_high - 0.75) ** 2)
    high = -0.45 + math.sqrt((a_high - 0.3) ** 2 + (0.75 - b_low) ** 2)
    assert difference_interval(6, 20, 15, 20) == pytest.approx((low, high))


def test_an_interval_excludes_zero_exactly_when_the_rates_are_separated():
    outcomes = set()
    for wins in range(0, 41, 2):
        comparison = compare_counts(wins, 40, 20, 40)
        assert (comparison.low > 0 or comparison.high < 0) == comparison.separated
        assert comparison.low <= comparison.difference <= comparison.high
        outcomes.add(comparison.separated)
    assert outcomes == {True, False}


def test_swapping_the_two_sides_turns_the_verdict_around():
    forward, backward = compare_counts(300, 512, 200, 512), compare_counts(200, 512, 300, 512)
    assert (forward.verdict(0.02), backward.verdict(0.02)) == ("better", "worse")
    assert (backward.low, backward.high) == pytest.approx((-forward.high, -forward.low))


def test_many_prompts_can_show_equivalence():
    assert compare_counts(50_000, 100_000, 50_100, 100_000).verdict(0.02) == "equivalent"


def test_detectable_differences_of_the_published_designs():
    # (1.95996 + .84162) * sqrt(.25 / n + .25 / m)
    assert detectable_difference(512, 512) == pytest.approx(2.80158 * math.sqrt(0.5 / 512), rel=1e-5)
    assert detectable_difference(256, 512) == pytest.approx(0.107, abs=0.0005)


@pytest.mark.parametrize("counts", [(5, 4, 1, 2), (-1, 4, 1, 2), (1, 2, 3, 0)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="needs 0 <= wins <= prompts"):
        compare_counts(*counts)
