"""The engine of every interval: two-way ANOVA, Holm, rank intervals, verdicts, and its measured coverage."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from halobench.leaderboard.stats import Estimate, anova, clopper_pearson, holm, rank_intervals, verdict

TABLE = [[1, 2, 3, 4], [2, 2, 4, 4], [1, 3, 3, 6]]  # seeds by prompts


def given(p, *, df=10.0, stderr=1.0):
    """An estimate whose one-sided p-value is p."""
    mean = float(stats.t.isf(p, df)) * stderr
    return Estimate(mean, stderr, df, 5, 300, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("table", [TABLE, [[0, 1, 2], [1, 1, 4], [3, 5, 5]]])
def test_anova_is_the_textbook_one(table):
    seeds, prompts = len(table), len(table[0])
    mean = sum(map(sum, table)) / (seeds * prompts)
    rows = [sum(row) / prompts for row in table]
    columns = [sum(column) / seeds for column in zip(*table, strict=True)]
    cells = [(s, p) for s in range(seeds) for p in range(prompts)]
    ms_seed = prompts * sum((row - mean) ** 2 for row in rows) / (seeds - 1)
    ms_prompt = seeds * sum((column - mean) ** 2 for column in columns) / (prompts - 1)
    rest = (seeds - 1) * (prompts - 1)
    ms_error = sum((table[s][p] - rows[s] - columns[p] + mean) ** 2 for s, p in cells) / rest
    if table is TABLE:  # worked out with fractions on paper
        assert (mean, ms_seed, ms_prompt, ms_error) == pytest.approx((35 / 12, 7 / 12, 73 / 12, 7 / 12))
    top = ms_seed + ms_prompt - ms_error
    df = top**2 / (ms_seed**2 / (seeds - 1) + ms_prompt**2 / (prompts - 1) + ms_error**2 / rest)

    estimate = anova(np.array(table, dtype=float))
    assert (estimate.num_seeds, estimate.num_prompts) == (seeds, prompts)
    assert estimate.mean == pytest.approx(mean)
    assert estimate.stderr == pytest.approx(math.sqrt(top / (seeds * prompts)))
    assert estimate.df == pytest.approx(df)
    variances = (estimate.seed_sd**2, estimate.prompt_sd**2, estimate.residual_sd**2)
    expected = ((ms_seed - ms_error) / prompts, (ms_prompt - ms_error) / seeds, ms_error)
    assert variances == pytest.approx(expected, abs=1e-12)


def test_with_many_seeds_the_error_is_that_of_clustering_both_ways():
    # V = (sums by seed)^2 + (sums by prompt)^2 - (cells)^2 of the deviations; statsmodels 0.15.0, with its
    # small-sample factors, gives the same within 1%
    stream = np.random.default_rng(0)
    table = stream.normal(0, 0.2, (50, 1)) + stream.normal(0, 0.3, 60) + stream.normal(0, 0.5, (50, 60))
    away = table - table.mean()
    variance = (away.sum(1) ** 2).sum() + (away.sum(0) ** 2).sum() - (away**2).sum()
    assert anova(table).stderr == pytest.approx(math.sqrt(variance) / table.size, rel=0.05)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_interval_and_p_value_are_those_of_student_t(level):
    estimate = anova(np.array(TABLE, dtype=float) - 2.5)
    low, high = stats.t.interval(level, estimate.df, loc=estimate.mean, scale=estimate.stderr)
    assert estimate.interval(level) == pytest.approx((low, high))
    expected = 1 - stats.t.cdf(estimate.mean / estimate.stderr, estimate.df)
    assert estimate.p_greater == pytest.approx(expected)


def test_the_detectable_difference_is_found_with_the_power_it_promises():
    estimate = given(0.3, df=12.0, stderr=0.02)
    # power of a t test that is off by the detectable difference: P(T > t_.975 - (t_.975 + t_.8)) = .8
    critical = stats.t.ppf(0.975, 12)
    assert stats.t.sf(critical - estimate.detectable / 0.02, 12) == pytest.approx(0.8)


def test_the_error_never_falls_below_that_of_either_dimension_alone():
    # prompts all alike within a seed: only seeds vary, and SE^2 = var(seed means) / S
    estimate = anova(np.array([[1.0, 1, 1], [2, 2, 2], [4, 4, 4]]))
    assert estimate.stderr == pytest.approx(math.sqrt(7 / 3 / 3))  # the variance of 1, 2, 4 is 7/3
    assert estimate.df == pytest.approx(2)
    # interaction only: MS_S = MS_P = 0, so no error is known
    assert anova(np.array([[0.0, 1], [1, 0]])).stderr == 0


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_a_constant_table_has_no_interval(value):
    estimate = anova(np.full((3, 4), value))
    assert estimate.mean == pytest.approx(value)
    assert all(math.isnan(end) for end in estimate.interval())
    assert math.isnan(estimate.p_greater)


@pytest.mark.parametrize("table", [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, math.nan], [2.0, 3.0]]])
def test_an_incomplete_table_is_refused(table):
    with pytest.raises(ValueError, match="needs a complete table of at least 2 x 2"):
        anova(np.array(table))


def test_holm_worked_out_by_hand():
    # 3 pairs are 6 one-sided hypotheses: .004 <= .05/6 is rejected, .012 > .05/5 is not, nor any after it.
    # (Three two-sided hypotheses would have rejected both: .008 <= .05/3 and .024 <= .05/2.)
    family = [given(0.2), given(0.004), given(1 - 0.012)]
    adjusted = holm(family)
    assert [entry.separated for entry in adjusted] == [False, True, False]
    assert [entry.p for entry in adjusted] == pytest.approx([0.2 * 4, 0.004 * 6, 0.012 * 5])
    for entry, estimate, left in zip(adjusted, family, [5, 6, 5], strict=True):
        half = stats.t.isf(0.05 / left, 10)  # the level it was held against, one-sided
        assert (entry.low, entry.high) == pytest.approx((estimate.mean - half, estimate.mean + half))


def test_adjusted_p_values_never_fall_below_an_earlier_one():
    # .01 * 4 = .04, then .011 * 3 = .033 is raised to .04
    assert [entry.p for entry in holm([given(0.011), given(0.01)])] == pytest.approx([0.04, 0.04])


def test_a_difference_that_does_not_vary_is_never_separated():
    constant = anova(np.full((3, 4), 0.5))
    first, second = holm([constant, given(1e-6)])
    assert (first.separated, second.separated) == (False, True)
    assert first.p == 1
    assert math.isnan(first.low)


def test_the_adjusted_interval_excludes_zero_exactly_when_the_direction_is_established():
    stream = np.random.default_rng(3)
    outcomes = set()
    for _ in range(200):
        family = [
            given(p, df=df)
            for p, df in zip(stream.beta(0.3, 0.3, 6), stream.uniform(1, 30, 6), strict=True)
            if 0 < p < 1
        ]
        for estimate, entry in zip(family, holm(family), strict=True):
            assert (entry.low > 0 or entry.high < 0) == entry.separated
            assert entry.low < estimate.mean < entry.high
            outcomes.add(entry.separated)
    assert outcomes == {True, False}


def test_rank_intervals_by_hand():
    # a beats c and d, b beats d; the rest is open
    separated = {("a", "c"): 0.2, ("d", "a"): -0.3, ("b", "d"): 0.1}
    expected = {"a": (1, 2), "b": (1, 3), "c": (2, 4), "d": (3, 4)}
    assert rank_intervals(["a", "b", "c", "d"], separated) == expected
    assert rank_intervals(["a", "b"], {}) == {"a": (1, 2), "b": (1, 2)}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.05, "better"),
        (0.001, 0.019, "better, within the margin"),
        (-0.05, -0.01, "worse"),
        (-0.019, -0.001, "worse, within the margin"),
        (-0.019, 0.019, "equivalent"),
        (-0.01, 0.05, "not inferior"),
        (-0.05, 0.01, "not superior"),
        (-0.05, 0.05, "inconclusive"),
        (-0.02, 0.02, "inconclusive"),
        (0.0, 0.05, "not inferior"),
        (math.nan, math.nan, "inconclusive"),
    ],
)
def test_verdict(low, high, expected):
    assert verdict(low, high, 0.02) == expected


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (0, 5, 0.0, 1 - 0.025 ** (1 / 5)),  # closed form at zero
        (5, 5, 0.025 ** (1 / 5), 1.0),
        (1, 5, 0.005050763, 0.716417936),  # R: binom.test(1, 5)$conf.int
        (0, 0, 0.0, 1.0),
    ],
)
def test_clopper_pearson_against_known_values(count, total, low, high):
    assert clopper_pearson(count, total) == pytest.approx((low, high), abs=1e-8)


def draw_wins(stream, num_losses, num_seeds, seed_sd, *, num_prompts=300):
    """Binary wins (losses, seeds, prompts) of equally good losses; seed_sd is in logits."""
    difficulty = stream.normal(0, 1, num_prompts)
    taste = stream.normal(0, 0.3, (num_losses, 1, num_prompts))
    luck = stream.normal(0, seed_sd, (num_losses, num_seeds, 1))
    chance = 1 / (1 + np.exp(-(difficulty + taste + luck)))
    return (stream.random((num_losses, num_seeds, num_prompts)) < chance).astype(float)


@pytest.mark.parametrize("seed_sd", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("num_seeds", [3, 5])
def test_nominal_95_percent_intervals_cover_at_least_94(num_seeds, seed_sd):
    # A true coverage of .94 is measured below .94 - 2.6 standard errors (.0047 here) once in 200 times. The
    # error of prompts alone covers .67 at the largest seed_sd, a bootstrap of seeds .73 to .83 everywhere.
    replicates = 2500
    stream = np.random.default_rng([num_seeds, round(100 * seed_sd)])
    covered = 0
    for _ in range(replicates):
        first, second = draw_wins(stream, 2, num_seeds, seed_sd)
        low, high = anova(first - second).interval()
        covered += low <= 0 <= high
    error = math.sqrt(0.94 * 0.06 / replicates)
    assert covered / replicates >= 0.94 - 2.6 * error


def test_a_wrong_direction_is_claimed_on_at_most_5_percent_of_boards_of_equal_losses():
    # A true rate of .05 is measured above .05 + 2.6 standard errors (.0089 here) once in 200 times. Without
    # Holm's correction more than half of such boards claim something.
    boards = 600
    stream = np.random.default_rng(6)
    wrong = 0
    for _ in range(boards):
        wins = draw_wins(stream, 6, 5, 0.15)
        family = [anova(first - second) for first, second in combinations(wins, 2)]
        wrong += any(entry.separated for entry in holm(family))
    assert wrong / boards <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / boards)
