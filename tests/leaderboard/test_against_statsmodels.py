"""The statistics of the board against an independent implementation, where the two overlap."""

import math

import numpy as np
import pytest
from scipy.stats import fisher_exact
from statsmodels.genmod import families
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as contingency_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups
from statsmodels.tools import add_constant

from halobench.leaderboard.checkpoint import across_prompts, mcnemar
from halobench.leaderboard.clusters import by_group
from halobench.leaderboard.counts import compare_family
from halobench.leaderboard.length_control import length_controlled
from halobench.leaderboard.stats import anova, clopper_pearson, holm, wilson
from tests.leaderboard.test_clusters import grouped


def clustered_both_ways(values, groups):
    """Error of the mean, clustered by seed and by group (Cameron, Gelbach and Miller)."""
    seeds = np.repeat(np.arange(len(values)), values.shape[1])
    fit = OLS(values.ravel(), np.ones(values.size)).fit()
    return math.sqrt(cov_cluster_2groups(fit, seeds, np.tile(groups, len(values)))[0][0, 0])


def test_with_many_seeds_the_error_is_that_of_clustering_by_seed_and_prompt():
    stream = np.random.default_rng(0)
    table = stream.normal(0, 0.2, (50, 1)) + stream.normal(0, 0.3, 60) + stream.normal(0, 0.5, (50, 60))
    assert anova(table).stderr == pytest.approx(clustered_both_ways(table, np.arange(60)), rel=0.15)


def test_with_many_seeds_the_error_of_grouped_prompts_is_that_of_clustering_by_seed_and_group():
    values, groups = grouped(50)
    found = anova(by_group(values, list(groups))).stderr
    assert found == pytest.approx(clustered_both_ways(values, groups), rel=0.15)


def test_the_error_of_grouped_prompts_of_one_seed_is_the_cluster_robust_one():
    values, groups = grouped(1)
    fit = OLS(values[0], np.ones(len(groups))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    # with one regressor its correction C / (C - 1) * (n - 1) / (n - 1) is that of Miller
    assert across_prompts(by_group(values, list(groups))[0]).stderr == pytest.approx(fit.bse[0], rel=1e-9)


def test_holm_is_that_over_both_directions_of_every_comparison():
    stream = np.random.default_rng(2)
    family = [anova(stream.normal(mean, 0.3, (5, 30))) for mean in (0.0, 0.02, 0.05, 0.1, -0.2)]
    one_sided = [p for estimate in family for p in (estimate.p_greater, 1 - estimate.p_greater)]
    rejected, adjusted, _, _ = multipletests(one_sided, alpha=0.05, method="holm")
    for index, entry in enumerate(holm(family)):
        both = slice(2 * index, 2 * index + 2)
        assert entry.p == pytest.approx(adjusted[both].min())
        assert entry.separated == rejected[both].any()


def test_holm_of_published_counts():
    counts = [(60, 100, 40, 100), (55, 100, 45, 100), (90, 100, 50, 100), (20, 40, 20, 40)]
    p_values = [fisher_exact([[a, m - a], [b, n - b]]).pvalue for a, m, b, n in counts]
    _, adjusted, _, _ = multipletests(p_values, method="holm")
    assert [entry.p for entry in compare_family(counts)] == pytest.approx(list(adjusted))


@pytest.mark.parametrize(("count", "total"), [(0, 20), (1, 20), (7, 20), (20, 20), (3, 512)])
def test_intervals_of_proportions(count, total):
    assert clopper_pearson(count, total) == pytest.approx(
        proportion_confint(count, total, method="beta"), abs=1e-9
    )
    assert wilson(count, total) == pytest.approx(proportion_confint(count, total, method="wilson"), abs=1e-9)


def test_mcnemars_exact_test():
    stream = np.random.default_rng(4)
    first, second = (stream.random((2, 60)) < [[0.7], [0.5]]).astype(float)
    table = [[np.sum((first == a) & (second == b)) for b in (1, 0)] for a in (1, 0)]
    assert mcnemar(first, second) == pytest.approx(contingency_mcnemar(table, exact=True).pvalue)


def test_length_control_is_the_fractional_logit_with_its_robust_error():
    stream = np.random.default_rng(5)
    excess = stream.normal(3, 8, (1, 400))
    x = np.tanh(excess / excess.std())
    wins = np.clip(1 / (1 + np.exp(0.5 - 0.8 * x)) + stream.normal(0, 0.2, x.shape), 0, 1)
    model = GLM(wins[0], add_constant(x[0]), family=families.Binomial())
    fit = model.fit(cov_type="HC0", tol=1e-12)
    found = length_controlled(wins, excess, range(400))
    assert (found.theta.mean, found.gamma.mean) == pytest.approx(tuple(fit.params), rel=1e-6)
    expected = fit.bse * math.sqrt(400 / 399)  # HC0 divides by n, the variance of a mean by n - 1
    assert (found.theta.stderr, found.gamma.stderr) == pytest.approx(tuple(expected), rel=1e-6)
