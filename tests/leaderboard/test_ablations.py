"""What a suite varies: which rows are a series, and what follows from its levels."""

import math

import numpy as np
import pytest

from halobench.leaderboard.ablation_tables import crossing, level_table, trend_table
from halobench.leaderboard.ablations import find_ablations
from halobench.leaderboard.cube import load_settings
from halobench.leaderboard.stats import anova
from tests.leaderboard.ablated import efficiency, imbalance, wins
from tests.leaderboard.synthetic import ARCHITECTURE, row, write_results

SEEDS = 3


def ablations_of(tmp_path, runs, **declared):
    return find_ablations(load_settings(write_results(tmp_path / "results", runs, **declared)))


def only(tmp_path, runs, **declared):
    [found] = ablations_of(tmp_path, runs, **declared)
    return found


def places(ablation):
    return {one.name: list(one.members) for one in ablation.series}


def line(table, **wanted):
    for key, value in wanted.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.fixture(scope="module")
def unbalanced(tmp_path_factory):
    runs = imbalance((1.0, 0.5, 0.25), SEEDS)
    return only(tmp_path_factory.mktemp("imbalance"), runs)


@pytest.fixture(scope="module")
def thinned(tmp_path_factory):
    return only(tmp_path_factory.mktemp("efficiency"), efficiency((400, 200, 100), SEEDS))


def test_both_fractions_are_one_axis_of_desirable_to_undesirable(unbalanced):
    both = [0.25, 0.5, 1.0, 2.0, 4.0]
    assert unbalanced.axis.name == "imbalance"
    assert places(unbalanced) == {
        "dpo": both,
        "dpo at matched updates": both,
        "kto (lambda_ratio=1)": both,
        "kto (lambda_ratio=1.33)": both,
        "kto (no lambda_ratio)": both,
        "sft on what is kept": [0.25, 0.5, 1.0],
    }
    assert [one.name for one in unbalanced.series if one.control] == ["sft on what is kept"]


def test_control_rows_that_do_not_vary_are_lines(unbalanced):
    assert set(unbalanced.controls) == {"base", "reference", "dpo on all pairs", "kto without sft"}


def test_at_matched_updates_less_data_are_seen_more_often(unbalanced):
    [matched] = [one for one in unbalanced.series if one.name == "dpo at matched updates"]
    passes = {level: member.facts["passes"] for level, member in matched.members.items()}
    assert passes == {0.25: 4, 0.5: 2, 1.0: 1, 2.0: 2, 4.0: 4}


def test_a_series_goes_through_the_settings_of_its_suite(thinned):
    fewer = [100.0, 200.0, 400.0]
    assert thinned.axis.name == "num_pairs"
    losses = [f"{loss}{how}" for loss in ("dpo", "kto", "slic") for how in ("", " at matched updates")]
    assert places(thinned) == dict.fromkeys([*losses, "reference"], fewer)


def test_a_control_that_repeats_a_series_is_no_line(thinned):
    # kto_again is at every place, as kto is; the base is the same at every one
    assert set(thinned.controls) == {"base"}


def test_rows_tuned_for_their_place_are_a_series(tmp_path):
    runs = []
    for key, (pairs, rate) in enumerate([(100, 1e-3), (200, 2e-3)]):
        runs += row("kto", wins(0.4, key, seeds=2), **{"data.num_pairs": pairs, "optim": {"lr": rate}})
    assert places(only(tmp_path, runs)) == {"kto": [100.0, 200.0]}


def test_other_hyper_parameters_make_other_series(tmp_path):
    runs = []
    for key, (beta, pairs) in enumerate([(b, p) for b in (0.1, 0.5) for p in (100, 200)]):
        loss = {"name": "kto", "beta": beta}
        runs += row(loss, wins(0.4, key, seeds=2), **{"data.num_pairs": pairs})
    assert places(only(tmp_path, runs)) == {"kto (beta=0.1)": [100, 200], "kto (beta=0.5)": [100, 200]}


def test_hyper_parameters_are_the_axis_where_nothing_else_varies(tmp_path):
    runs = []
    for key, beta in enumerate((0.1, 0.3, 1.0)):
        runs += row({"name": "kto", "beta": beta}, wins(0.4, key, seeds=2))
    found = only(tmp_path, [*runs, *row("sft", wins(0.3, 9, seeds=2))])
    assert found.axis.name == "loss.beta"
    assert places(found) == {"kto": [0.1, 0.3, 1.0]}
    assert "breakdown" not in set(trend_table(found)["kind"])  # no beta is the one with all the data


def test_a_hyper_parameter_without_a_logarithm_is_no_axis(tmp_path):
    runs = []
    for key, weight in enumerate((0.0, 0.5, 1.0)):
        runs += row({"name": "slic", "nll_weight": weight}, wins(0.4, key, seeds=2))
    assert ablations_of(tmp_path, runs) == []


def test_models_are_placed_by_their_parameters_without_a_critic(tmp_path):
    runs = []
    for key, (width, size) in enumerate([(8, 1000), (16, 4000)]):
        model = {"architecture": {**ARCHITECTURE, "hidden_size": width}}
        for loss, extra in (("kto", 0), ("offline_ppo", 9)):
            mine = row(loss, wins(0.4, key + 10 * extra, seeds=2), model=model)
            runs += [run._replace(spent={"parameters": size + extra}) for run in mine]
    assert places(only(tmp_path, runs)) == {"kto": [1000, 4000], "offline_ppo": [1000, 4000]}


def test_a_suite_of_losses_alone_varies_nothing(tmp_path):
    runs = [*row("kto", wins(0.4, 1, seeds=2)), *row("dpo", wins(0.4, 2, seeds=2))]
    assert ablations_of(tmp_path, runs) == []


def test_levels_are_estimated_from_all_their_own_seeds(thinned):
    levels = level_table(thinned)
    found = line(levels, series="dpo", level=200.0)
    [member] = [one.members[200.0] for one in thinned.series if one.name == "dpo"]
    own = anova(member.values.to_numpy())
    assert (found["est"], found["lo"], found["hi"]) == pytest.approx((own.mean, *own.interval()))
    assert (found["n_seeds"], found["n_prompts"], found["status"]) == (SEEDS, 40, "")
    assert found["tokens"] == 134 * 200
    assert list(levels.loc[levels["is_line"], "series"]) == ["base"]


def table_of(ablation, name, level):
    [one] = [one for one in ablation.series if one.name == name]
    return one.members[level].values.to_numpy()


def test_the_slope_is_that_of_least_squares_in_every_cell(thinned):
    found = line(trend_table(thinned), kind="slope", a="kto")
    tables = [table_of(thinned, "kto", level) for level in (100.0, 200.0, 400.0)]
    cells = np.polyfit(np.log2([100, 200, 400]), np.stack(tables).reshape(3, -1), 1)[0]
    expected = anova(cells.reshape(SEEDS, 40))
    assert (found["estimate"], found["low"], found["high"]) == pytest.approx(
        (expected.mean, *expected.interval())
    )
    assert (found["num_levels"], found["dropped_seeds"], found["dropped_prompts"]) == (3, 0, 0)


def test_each_side_of_the_imbalance_has_its_slope(unbalanced):
    slopes = trend_table(unbalanced)
    slopes = slopes[(slopes["kind"] == "slope") & (slopes["a"] == "dpo")].set_index("axis")["estimate"]
    means = {level: table_of(unbalanced, "dpo", level).mean() for level in (0.25, 0.5, 1.0, 2.0, 4.0)}
    # at places -2, -1, 0 the slope of three points is half of the last minus the first
    assert slopes["fewer desirable"] == pytest.approx((means[1.0] - means[0.25]) / 2)
    assert slopes["fewer undesirable"] == pytest.approx((means[4.0] - means[1.0]) / 2)


def test_interactions_are_one_family_without_the_controls(thinned):
    found = trend_table(thinned)
    pairs = found[found["kind"] == "interaction"]
    assert len(pairs) == 15  # of six series
    assert "reference" not in {*pairs["a"], *pairs["b"]}
    one = line(pairs, a="dpo", b="kto")
    slopes = found[found["kind"] == "slope"].set_index("a")["estimate"]
    assert one["estimate"] == pytest.approx(slopes["dpo"] - slopes["kto"])
    assert one["adjusted_low"] < one["low"]
    assert one["verdict"] == ("rises more" if one["adjusted_low"] > 0 else "inconclusive")


def test_levels_are_held_against_all_data_and_against_controls(thinned):
    found = trend_table(thinned)
    full = found[(found["kind"] == "full") & (found["a"] == "slic")]
    assert list(full["level"]) == [100, 200]
    expected = anova(table_of(thinned, "slic", 100.0) - table_of(thinned, "slic", 400.0))
    assert line(full, level=100.0)["estimate"] == pytest.approx(expected.mean)
    assert line(full, level=100.0)["low"] == pytest.approx(expected.interval()[0])
    # a control that varies is met at the same level, one that does not at every level
    control = found[(found["kind"] == "control") & (found["a"] == "slic")]
    same = table_of(thinned, "slic", 200.0) - table_of(thinned, "reference", 200.0)
    assert line(control, b="reference", level=200.0)["estimate"] == pytest.approx(same.mean())
    base = thinned.controls["base"].values.to_numpy()
    against_base = line(control, b="base", level=200.0)["estimate"]
    assert against_base == pytest.approx((table_of(thinned, "slic", 200.0) - base).mean())


def flat(levels, prompts=6):
    """Runs of KTO by pairs: an own mean for each, and so little noise that it hardly matters."""
    runs = []
    for key, (pairs, level) in enumerate(levels.items()):
        noise = np.random.default_rng(key).normal(0, 1e-4, (SEEDS, prompts))
        runs += row("kto", level + noise, **{"data.num_pairs": pairs})
    return runs


def test_the_breakdown_stops_at_the_first_level_that_loses_more_than_the_margin(tmp_path):
    # 200 is .01 below 400, 100 is .05 below; 50 is at .4 again, which does not count any more
    found = only(tmp_path, flat({400: 0.40, 200: 0.39, 100: 0.35, 50: 0.40}), margin=0.02)
    row_ = line(trend_table(found), kind="breakdown")
    assert (row_["level"], row_["estimate"]) == (200, 200)


@pytest.mark.parametrize(
    ("lower", "status"), [(0.39, "holds at every level"), (0.30, "the nearest level fails")]
)
def test_the_breakdown_may_be_nowhere_or_everywhere(tmp_path, lower, status):
    found = only(tmp_path, flat({400: 0.40, 200: lower}), margin=0.02)
    assert line(trend_table(found), kind="breakdown")["status"] == status


def test_noise_has_a_slope_per_tenth_and_all_data_without_it(tmp_path):
    runs = []
    for share, level in ((0.0, 0.40), (0.1, 0.37), (0.3, 0.31)):
        noise = np.random.default_rng(int(share * 10)).normal(0, 1e-5, (SEEDS, 5))
        runs += row("kto", level + noise, **{"data.label_noise": share})
    found = trend_table(only(tmp_path, runs, margin=0.05))
    assert line(found, kind="slope")["estimate"] == pytest.approx(-0.03, abs=1e-4)
    assert line(found, kind="breakdown")["level"] == 0.1


def test_only_common_seeds_and_prompts_are_compared_and_the_others_counted(tmp_path):
    tables = {pairs: wins(0.4, pairs, seeds=4) for pairs in (100, 200)}
    runs = row("kto", tables[100], **{"data.num_pairs": 100})
    runs += row("kto", tables[200][:3, :30], **{"data.num_pairs": 200})
    found = line(trend_table(only(tmp_path, runs)), kind="slope")
    assert (found["num_seeds"], found["num_prompts"]) == (3, 30)
    assert (found["dropped_seeds"], found["dropped_prompts"]) == (1, 10)
    assert found["estimate"] == pytest.approx((tables[200][:3, :30] - tables[100][:3, :30]).mean())


def test_one_seed_has_levels_and_no_trend(tmp_path):
    runs = []
    for pairs in (100, 200):
        runs += row("kto", wins(0.4, pairs, seeds=1), **{"data.num_pairs": pairs})
    found = only(tmp_path, runs)
    assert set(level_table(found)["status"]) == {"one seed: of these weights, not of the method"}
    slope = line(trend_table(found), kind="slope")
    assert math.isnan(slope["estimate"])
    assert slope["status"] == "1 common seeds and 40 prompts: no interval"


def test_two_curves_cross_where_their_straight_lines_do():
    # seeds cross at 1/4 and at 3/4 between 0 and 1, the means at 1/2; t(.975, 1) = 12.7062
    gaps = np.array([[1.0, 3.0], [-3.0, -1.0], [-3.0, -2.0]])
    found = crossing(np.array([0.0, 1.0, 2.0]), gaps)
    half = 12.7062047 * (np.sqrt(2) / 4) / np.sqrt(2)
    assert found.place == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half))


@pytest.mark.parametrize(
    ("gaps", "status"),
    [
        ([[1.0, 1.0], [2.0, 3.0]], "no crossing"),
        ([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]], "no crossing"),
        ([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]], "the means cross 2 times"),
        ([[1.0, 1.0], [-5.0, 1.0]], "1 of 2 seeds cross once: no interval"),
    ],
)
def test_where_curves_do_not_cross_just_once_that_is_said(gaps, status):
    found = crossing(np.arange(len(gaps), dtype=float), np.array(gaps))
    assert found.status == status
    assert math.isnan(found.low)


def test_a_crossing_is_a_place_on_the_axis(tmp_path):
    # on log2 of 100, 400: A - B is +.03 and -.03, so they cross in the middle, at 200
    runs = []
    for loss, levels in (("kto", (0.43, 0.40)), ("dpo", (0.40, 0.43))):
        for pairs, level in zip((100, 400), levels, strict=True):
            runs += row(loss, np.full((2, 3), level), **{"data.num_pairs": pairs})
    found = line(trend_table(only(tmp_path, runs)), kind="crossing")
    assert found["estimate"] == pytest.approx(200, rel=1e-4)
