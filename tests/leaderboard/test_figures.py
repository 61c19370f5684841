"""The figures: each draws the numbers of its table, in a style that says the same everywhere."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from halobench.errors import UnknownNameError
from halobench.leaderboard.aggregate import aggregate
from halobench.leaderboard.build import build, build_boards
from halobench.leaderboard.cube import load_settings
from halobench.leaderboard.figures import make_plots
from halobench.leaderboard.figures.aggregate import aggregate_plots
from halobench.leaderboard.figures.hyper import heatmap, heatmap_plots
from halobench.leaderboard.figures.ranks import tied_groups
from halobench.leaderboard.figures.style import GREY, LOSS_STYLES, loss_styles, spread
from halobench.leaderboard.gallery import draw, figure_titles
from halobench.leaderboard.studies import make_study, study_notes, study_plots
from halobench.results.store import Store
from tests.leaderboard.ablated import efficiency, imbalance, wins
from tests.leaderboard.synthetic import Run, make_recipe, read_board, row, write_results

LOSSES = {"kto": 0.5, "dpo": 0.49, "slic": 0.4, "csft": 0.2}
SEEDS = 4
PLUGINS = [f"plugin_{number}" for number in range(6)]


def suite():
    """Four losses with drift, and the reference: two that are near each other, two that are not."""
    runs = []
    for key, (loss, level) in enumerate(LOSSES.items()):
        for run in row(loss, wins(level, key, seeds=SEEDS)):
            kl = np.full(40, 0.25 * (key + 1) + 0.01 * run.recipe.seed)
            runs.append(run._replace(values={**run.values, ("T=1", "kl"): kl}))
    reference = row("sft", wins(0.3, 9, seeds=SEEDS), label="reference", evaluate="reference", control=True)
    return [*runs, *reference]


def write_curves(store, runs):
    """A curve of ten steps for every run of KTO: its loss falls by .1 a step, its margin rises by 2."""
    for run in runs:
        if run.recipe.loss["name"] == "kto":
            steps = np.arange(1, 11)
            metrics = {
                "loss": 1.1 - 0.1 * steps + run.recipe.seed,
                "reward_desirable": 3.0 * steps,
                "reward_undesirable": 1.0 * steps,
            }
            curves = pd.concat(
                pd.DataFrame({"step": steps, "tokens": 1, "metric": name, "value": values})
                for name, values in metrics.items()
            )
            curves.to_parquet(store.run_path(run.recipe.run_id) / "curves.parquet")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    runs = suite()
    store = write_results(tmp_path_factory.mktemp("figures") / "results", runs, family=tuple(LOSSES))
    write_curves(store, runs)
    for run in runs:
        if run.recipe.evaluate == "aligned":
            seconds = {"kto": 20.0, "dpo": 10.0, "slic": 40.0, "csft": 5.0}[run.recipe.loss["name"]]
            timing = {"align": {"wall": seconds, "cpu": 1}, "scoring": {}, "peak_memory_bytes": 2**30}
            (store.run_path(run.recipe.run_id) / "timing.json").write_text(json.dumps(timing))
    return store


@pytest.fixture(scope="module")
def board(store):
    return read_board(store)


@pytest.fixture(scope="module")
def plots(board):
    return {plot.name: plot for plot in make_plots(board.setting, board.tables)}


def points(axes, colour=None):
    """Every marker that is drawn: x, y."""
    found = []
    for line in axes.lines:
        if line.get_marker() not in ("", "None", None) and (colour is None or line.get_color() == colour):
            found += list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))
    return found


def test_a_board_has_every_figure_that_it_has_numbers_for(plots):
    assert list(plots) == ["scores", "differences", "ranks", "pairs", "frontier", "curves", "noise", "cost"]


def test_one_loss_has_no_comparison_and_no_empty_figure(tmp_path):
    store = write_results(tmp_path / "results", row("kto", wins(0.4, 1)))
    board = read_board(store)
    assert [plot.name for plot in make_plots(board.setting, board.tables)] == ["scores"]


def test_rank_intervals_are_those_of_the_board(board, plots):
    rows = board.tables.rows.dropna(subset="rank_low")
    axes = plots["ranks"].figure.axes[0]
    drawn = [tuple(lines.get_segments()[0][:, 0]) for lines in axes.collections]
    assert drawn == list(zip(rows["rank_low"], rows["rank_high"], strict=True))
    tied = (~board.tables.contrasts["separated"].astype(bool)).sum()
    assert f"{tied} of 6 pairs not separable" in axes.get_title(loc="left")


def test_tied_groups_are_the_longest_runs_without_a_separated_pair():
    # a b c d: a differs from c and d, b from d
    pairs = pd.DataFrame({"a": ["a", "a", "b", "a"], "b": ["c", "d", "d", "b"], "separated": [1, 1, 1, 0]})
    assert tied_groups(list("abcd"), pairs) == [(0, 1), (1, 2), (2, 3)]
    assert tied_groups(["a", "c"], pairs) == []


def test_the_matrix_has_each_difference_and_its_opposite(board, plots):
    axes = plots["pairs"].figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    written = {}
    for text in axes.texts:
        x, y = text.get_position()
        written[names[int(y)], names[int(x)]] = text.get_text()
    expected = {}
    for _, pair in board.tables.contrasts.iterrows():
        expected[pair["a"], pair["b"]] = f"{pair['difference']:+.3f}"
        expected[pair["b"], pair["a"]] = f"{-pair['difference']:+.3f}"
    assert written == expected  # and nothing on the diagonal
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert len(hatched) == 2 * (~board.tables.contrasts["separated"].astype(bool)).sum()


def test_noise_bars_add_up_to_the_error_variance(board, plots):
    table, axes = plots["noise"].table, plots["noise"].figure.axes[0]
    widths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers])
    assert widths.sum(0) == pytest.approx(1e4 * table["stderr"].to_numpy() ** 2)
    pair = table[(table["a"] == "dpo") & (table["b"] == "kto")].iloc[0]
    [estimate] = [c.estimate for c in board.tables.comparisons if (c.first, c.second) == ("dpo", "kto")]
    seeds = estimate.seed_sd**2 / SEEDS
    rest = estimate.residual_sd**2 / (SEEDS * 40)
    total = seeds + estimate.prompt_sd**2 / 40 + rest
    assert (pair["share_seeds"], pair["share_rest"]) == pytest.approx((seeds / total, rest / total))
    assert "Noise: of the error variance" in " ".join(board.tables.notes)


def test_the_frontier_has_a_dot_per_run_and_its_steps_only_go_up(plots):
    table, axes = plots["frontier"].table, plots["frontier"].figure.axes[0]
    assert len(table) == SEEDS * len(LOSSES)
    drawn = np.concatenate([np.asarray(dots.get_offsets()) for dots in axes.collections])
    order = np.lexsort(drawn.T[::-1])
    expected = table[["kl", "winrate"]].sort_values(["kl", "winrate"]).to_numpy()
    assert drawn[order] == pytest.approx(expected)
    kto = table[table["row"] == "kto"]
    assert list(kto["kl"]) == pytest.approx([0.25, 0.26, 0.27, 0.28])
    [steps] = [line.get_ydata() for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert list(steps) == sorted(steps)


def test_curves_are_means_over_seeds_and_show_where_a_run_diverged(tmp_path):
    runs = row("kto", wins(0.4, 1, seeds=3))
    runs[2] = Run(runs[2].recipe, status="diverged")
    store = write_results(tmp_path / "results", runs)
    write_curves(store, runs)
    board = read_board(store)
    [plot] = [plot for plot in make_plots(board.setting, board.tables) if plot.name == "curves"]
    table = plot.table.set_index("panel")
    assert list(table.loc["loss", "est"]) == pytest.approx([-0.1 * step for step in range(10)])
    assert list(table.loc["margin", "est"]) == pytest.approx([2.0 * step for step in range(1, 11)])
    panels = {axes.get_title(loc="left"): axes for axes in plot.figure.axes}
    crosses = [line for line in panels["reward margin, better - worse"].lines if line.get_marker() == "x"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in crosses] == [(10, 20)]
    assert "1 diverged" in plot.figure.get_suptitle()


def test_cost_is_measured_on_hardware_that_is_named(plots):
    plot = plots["cost"]
    seconds = dict(zip(plot.table["row"], plot.table["train_seconds"], strict=True))
    assert seconds == {"kto": 20, "dpo": 10, "slic": 40, "csft": 5}
    expected = dict(zip(plot.table["row"], plot.table["winrate"], strict=True))
    assert {(20.0, expected["kto"]), (5.0, expected["csft"])} <= set(points(plot.figure.axes[0]))
    assert "1 x cpu" in plot.figure.get_suptitle()


def luminance(colour):
    """Relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_loss_has_its_own_style_and_contrast():
    styles = loss_styles(PLUGINS)
    assert set(styles) == {*LOSS_STYLES, *PLUGINS}
    for position in range(4):  # colour, marker, line, hatch: each tells them apart alone
        assert len({style[position] for style in styles.values()}) == len(styles)
    for colour in [GREY, *(style.colour for style in styles.values())]:
        assert 1.05 / (luminance(colour) + 0.05) >= 3


def test_another_row_seldom_changes_the_style_of_the_others():
    alone = {name: loss_styles([name])[name] for name in PLUGINS}
    together = loss_styles(PLUGINS)
    assert sum(alone[name] == together[name] for name in PLUGINS) >= 3
    for name in LOSS_STYLES:
        assert together[name] == LOSS_STYLES[name]


def test_texts_beside_lines_are_moved_apart_in_their_order():
    moved = spread([0.5, 0.1, 0.51, 0.9], 0.05)
    assert moved[1] == 0.1
    assert moved[3] == 0.9
    assert moved[2] - moved[0] == pytest.approx(0.05)
    assert moved[2] + moved[0] == pytest.approx(1.01)


def test_twelve_long_names_do_not_overlap(tmp_path):
    runs = []
    for key in range(12):
        label = f"a method with quite a long name, of which this is variant {key}"
        runs += row(
            {"name": "kto", "beta": 0.1 + key}, wins(0.3 + 0.02 * key, key, seeds=3, prompts=9), label=label
        )
    labels = tuple(dict.fromkeys(run.recipe.label for run in runs))
    board = read_board(write_results(tmp_path / "results", runs, family=labels))
    for plot in make_plots(board.setting, board.tables):
        canvas = FigureCanvasAgg(plot.figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        for axes in plot.figure.axes:
            labels = [label for label in axes.get_yticklabels() if label.get_text()]
            boxes = sorted((label.get_window_extent(renderer) for label in labels), key=lambda box: box.y0)
            lower = [box.y1 for box in boxes[:-1]]
            assert all(top <= box.y0 + 0.5 for top, box in zip(lower, boxes[1:], strict=True)), plot.name


@pytest.fixture(scope="module")
def unbalanced(tmp_path_factory):
    store = write_results(tmp_path_factory.mktemp("imbalance") / "results", imbalance((1.0, 0.5), 3))
    return make_study(load_settings(store))


def test_the_imbalance_curve_draws_the_levels_of_its_table(unbalanced):
    [plot] = study_plots(unbalanced)
    axes = plot.figure.axes[0]
    first = plot.table[plot.table["series"] == "dpo"]  # the first of a loss is drawn at its very place
    drawn = {x: y for x, y in points(axes, LOSS_STYLES["dpo"].colour)}
    assert [drawn[x] for x in first["level"]] == pytest.approx(list(first["est"]))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1:2", "1:1", "2:1"]
    lines = plot.table[plot.table["is_line"]]
    levels = [line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    assert sorted(levels) == pytest.approx(sorted(lines["est"]))
    assert {text.get_text() for text in axes.texts} == set(lines["series"])
    [legend] = plot.figure.legends
    said = next(text.get_text() for text in legend.get_texts() if text.get_text().startswith("dpo:"))
    slopes = unbalanced.trends
    slopes = slopes[(slopes["kind"] == "slope") & (slopes["a"] == "dpo")].set_index("axis")["estimate"]
    assert f"{-slopes['fewer desirable']:+.3f} " in said
    assert f"{slopes['fewer undesirable']:+.3f} " in said


def test_notes_say_up_to_where_every_method_holds(unbalanced):
    notes = study_notes(unbalanced)
    sides = ["Fewer desirable examples", "Fewer undesirable examples"]
    assert [note.split(":")[0] for note in notes] == sides
    assert all("dpo at matched updates " in note for note in notes)


@pytest.fixture(scope="module")
def thinned(tmp_path_factory):
    root = tmp_path_factory.mktemp("efficiency")
    write_results(root / "results", efficiency((400, 200), 5), family=("dpo", "kto", "slic"))
    build(root / "results", root / "board")
    return root


def test_data_efficiency_has_a_twin_over_tokens(thinned):
    study = make_study(load_settings(Store(thinned / "results")))
    found = {plot.name: plot for plot in study_plots(study)}
    assert list(found) == ["efficiency", "efficiency-tokens", "aggregate", "profile"]
    axes = found["efficiency-tokens"].figure.axes[0]
    colour = LOSS_STYLES["kto"].colour
    assert {x for x, _ in points(axes, colour)} == {134 * 200 * 1.5, 134 * 400 * 1.5}
    # matched updates all cost the same, and stand in the other figure
    assert not any("matched" in name for name in found["efficiency-tokens"].table["series"])


def test_a_build_writes_what_is_said_of_a_suite_as_a_whole(thinned):
    names = {path.name for path in (thinned / "board").glob("*.csv")}
    assert {"trends.csv", "noise.csv", "aggregate.csv"} <= names
    trends = pd.read_csv(thinned / "board" / "trends.csv")
    assert set(trends["kind"]) == {"slope", "interaction", "full", "control", "breakdown", "crossing"}
    assert [path for path in (thinned / "board" / "figures").glob("*-efficiency.svg")]
    assert "Data efficiency: not inferior" in (thinned / "board" / "README.md").read_text()


def test_the_interquartile_mean_is_of_all_seeds_and_settings(thinned):
    settings = load_settings(Store(thinned / "results"))
    found = aggregate(settings)
    scores = sorted(
        value
        for setting in settings
        for value in setting.table(setting.row("kto"), "oracle", "T=1", "winrate").mean(1)
    )
    table = found.table.set_index(["kind", "a", "b"])
    cut = len(scores) // 4
    assert table.loc[("iqm", "kto", ""), "est"] == pytest.approx(np.mean(scores[cut : len(scores) - cut]))
    assert table.loc[("iqm", "kto", ""), "n_settings"] == len(settings) == 3
    forth, back = table.loc[("p_improvement", "kto", "slic")], table.loc[("p_improvement", "slic", "kto")]
    assert forth["est"] + back["est"] == pytest.approx(1)
    profile = aggregate_plots(found)[1].table
    kto = profile[profile["loss"] == "kto"]
    for tau, share in kto[["threshold", "est"]].itertuples(index=False):
        assert share == pytest.approx(np.mean([score > tau for score in scores]))


def test_one_setting_has_no_aggregate(board):
    assert aggregate([board.setting]) is None


def test_a_heat_map_boxes_the_best_and_hatches_what_was_not_tried():
    cells = [(1, 10), (1, 20), (2, 10)]
    tried = [("kto", beta, lr, seed, beta + lr + seed) for beta, lr in cells for seed in (0, 1)]
    frame = pd.DataFrame(tried, columns=["loss", "beta", "lr", "seed", "value"])
    plot = heatmap(frame, "hyper", "s", "sum")
    table = plot.table.set_index(["beta", "lr"])
    assert table.loc[(1, 10), "est"] == 11.5
    assert list(table.index[table["chosen"]]) == [(1, 20)]
    assert set(table["n_seeds"]) == {2}
    axes = plot.figure.axes[0]
    written = sorted(text.get_text() for text in axes.texts)
    assert written == ["11.500\nn = 2", "12.500\nn = 2", "21.500\nn = 2"]
    assert [patch.get_xy() for patch in axes.patches if patch.get_hatch()] == [(0.5, -0.5)]


def test_one_hyper_parameter_is_no_heat_map():
    frame = pd.DataFrame({"loss": "kto", "beta": [1, 2], "lr": 1, "seed": 0, "value": [1, 2]})
    assert heatmap(frame, "hyper", "s", "sum") is None


def test_a_suite_of_two_hyper_parameters_is_a_heat_map(tmp_path):
    runs = []
    for beta in (0.1, 0.5):
        for rate in (1e-3, 2e-3):
            table = np.full((2, 3), beta + 100 * rate)
            runs += row({"name": "kto", "beta": beta}, table, optim={"lr": rate})
    setting = read_board(write_results(tmp_path / "results", runs)).setting
    [plot] = heatmap_plots([setting])
    assert plot.table.set_index(["beta", "lr"]).loc[(0.5, 2e-3), "est"] == pytest.approx(0.7)
    assert list(plot.table.loc[plot.table["chosen"], "beta"]) == [0.5]


def test_figures_are_drawn_by_name_and_of_some_rows(tmp_path):
    runs = []
    for key, loss in enumerate(("kto", "dpo")):
        for pairs in (100, 200):
            runs += row(loss, wins(0.4, key + pairs, seeds=2), **{"data.num_pairs": pairs})
    results = write_results(tmp_path / "results", runs).root
    [name] = [name for name in figure_titles(results) if name.endswith("-efficiency")]
    assert set(draw(results, name, {}).table["loss"]) == {"kto", "dpo"}
    assert set(draw(results, name, {"loss": ["kto"]}).table["loss"]) == {"kto"}
    with pytest.raises(UnknownNameError, match="did you mean"):
        draw(results, f"{name}x", {})


def test_tuning_runs_are_drawn_though_they_are_on_no_board(tmp_path):
    recipes = [
        make_recipe({"name": "kto", "beta": beta}, seed=seed, split="dev", optim={"lr": rate})
        for beta in (0.1, 0.5)
        for rate in (1e-3, 2e-3)
        for seed in (0, 1)
    ]
    values = {("T=1", "winrate"): np.full(3, 0.5)}
    write_results(tmp_path / "results", [Run(recipe, values) for recipe in recipes])
    assert build_boards(Store(tmp_path / "results")) == []
    assert list(figure_titles(tmp_path / "results")) == ["tuning/synthetic-hyper"]


def test_a_search_kept_as_a_table_is_drawn(tmp_path):
    lines = ['loss,beta,lr,seed,"win rate, T=1","win rate, T*"']
    lines += [f"kto,{beta},{lr},0,0.{beta},0.{lr}" for beta in (1, 3) for lr in (1, 5)]
    (tmp_path / "results" / "tuning").mkdir(parents=True)
    (tmp_path / "results" / "tuning" / "cafe.csv").write_text("\n".join(lines))
    table = draw(tmp_path / "results", "tuning/cafe-hyper", {}).table.set_index(["beta", "lr"])
    assert table.loc[(3, 5), "est"] == pytest.approx((0.3 + 0.5) / 2)
