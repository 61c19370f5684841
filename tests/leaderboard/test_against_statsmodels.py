"""The statistics of the board against an independent implementation, where the two overlap."""

import math

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from halobench.leaderboard.checkpoint import across_prompts
from halobench.leaderboard.clusters import by_group
from halobench.leaderboard.stats import anova
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
