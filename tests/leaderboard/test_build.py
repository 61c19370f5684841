"""The files of a leaderboard: the same bytes everywhere, figures beside their numbers, a safe page."""

import base64
import hashlib
import math
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from halobench.leaderboard.build import build, build_boards, stale_files
from halobench.leaderboard.figures import make_plots
from halobench.results.store import Store
from tests.leaderboard.synthetic import Run, read_board, row, write_results

COMPONENTS = ("task", "truth", "manners", "brevity", "form")


def table(level, seed):
    return level + np.random.default_rng(seed).normal(0, 0.1, (3, 8))


def suite():
    """Three losses, one of them outside the family, and the reference, with everything that figures show."""
    runs = []
    for index, (loss, level) in enumerate([("dpo", 0.3), ("kto", 0.5), ("slic", 0.4)]):
        runs += row(loss, {"T=1": table(level, index), "T*": table(level + 0.1, 9 + index)})
    runs += row("sft", table(0.2, 7), label="reference", evaluate="reference", control=True)
    stream = np.random.default_rng(11)
    return [
        run._replace(
            values={**run.values, **{("T=1", name): stream.normal(0, 1, 8) for name in COMPONENTS}},
            aggregates={("T=1", "distinct"): 1 / 3},
        )
        for run in runs
    ]


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A results folder and its board, built in this process."""
    root = tmp_path_factory.mktemp("built")
    write_results(root / "results", suite())
    build(root / "results", root / "board")
    return root


def test_a_build_writes_tables_figures_and_pages(built):
    figures = ["components", "differences", "noise", "scores"]
    [board] = build_boards(Store(built / "results"))
    stem = board.stem
    runs = [row.records[0].run_id for row in board.setting.rows]  # the lowest seed of each row
    pairs = ["dpo-vs-kto", "slic-vs-dpo", "slic-vs-kto"]  # slic is outside of the family
    assert set(files_of(built / "board")) == {
        *("README.md", "leaderboard.csv", "contrasts.csv", "cost.csv", "noise.csv"),
        *("index.html", "methods.html", "downloads.html", f"setting/{stem}.html"),
        *(f"contrast/{stem}--{pair}.html" for pair in pairs),
        *(f"run/{run_id}.html" for run_id in runs),
        *(f"figures/{stem}-{name}.{kind}" for name in figures for kind in ("svg", "csv")),
    }


def test_a_fresh_board_is_not_stale(built):
    assert stale_files(built / "results", built / "board") == []


def test_stale_files_are_those_that_changed_are_missing_or_too_many(built, tmp_path):
    target = tmp_path / "board"
    for name, content in files_of(built / "board").items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)
    (target / "index.html").write_text("changed")
    (target / "contrasts.csv").unlink()
    (target / "figures" / "old.svg").touch()
    assert stale_files(built / "results", target) == ["contrasts.csv", "figures/old.svg", "index.html"]
    assert (target / "index.html").read_text() == "changed"  # looking writes nothing


def test_a_build_replaces_what_was_there(built, tmp_path):
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "old.txt").touch()
    build(built / "results", tmp_path / "board")
    assert "old.txt" not in files_of(tmp_path / "board")


@pytest.mark.parametrize("name", ["leaderboard.csv", "contrasts.csv"])
def test_numbers_in_tables_have_six_significant_digits(built, name):
    numbers = pd.read_csv(built / "board" / name, keep_default_na=False).to_numpy().ravel()
    floats = [value for value in numbers if isinstance(value, float) and math.isfinite(value)]
    assert len(floats) > 20
    assert all(float(f"{value:.6g}") == value for value in floats)
    assert any(float(f"{value:.5g}") != value for value in floats)  # and not fewer


@pytest.fixture(scope="module")
def plots(built):
    board = read_board(Store(built / "results"))
    return {plot.name: plot for plot in make_plots(board.setting, board.tables)}


def drawn(axes):
    """Estimate and interval of every error bar, in the order of the lines."""
    found = []
    for bar in axes.containers:
        point, _, (segments,) = bar.lines
        (low, _), (high, _) = segments.get_segments()[0]
        found.append((float(point.get_ydata()[0]), float(point.get_xdata()[0]), low, high))
    return [numbers[1:] for numbers in sorted(found)]


def test_the_forest_plot_draws_the_numbers_of_its_table(built, plots):
    saved = pd.read_csv(next((built / "board" / "figures").glob("*-differences.csv")))
    expected = saved[["difference", "adjusted_low", "adjusted_high"]].to_numpy()
    axes = plots["differences"].figure.axes[0]
    assert drawn(axes) == [pytest.approx(line, rel=1e-5) for line in expected]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"{a} - {b}" for a, b in zip(saved["a"], saved["b"], strict=True)
    ]


def test_the_score_plot_draws_the_numbers_of_its_table(built, plots):
    saved = pd.read_csv(next((built / "board" / "figures").glob("*-scores.csv")))
    expected = [
        [line[key], line[f"{key}_low"], line[f"{key}_high"]]
        for _, line in saved.iterrows()
        for key in ("winrate", "winrate_star")
        if not pd.isna(line[key])
    ]
    assert drawn(plots["scores"].figure.axes[0]) == [pytest.approx(line, rel=1e-5) for line in expected]


def test_the_component_plot_draws_differences_from_the_reference(built, plots):
    saved = pd.read_csv(next((built / "board" / "figures").glob("*-components.csv")), index_col="row")
    rows = pd.read_csv(built / "board" / "leaderboard.csv", index_col="row")
    change = rows.loc[saved.index, list(COMPONENTS)] - rows.loc["reference", list(COMPONENTS)]
    assert saved.to_numpy() == pytest.approx(change.to_numpy(), abs=2e-6)
    shown = [text.get_text() for text in plots["components"].figure.axes[0].texts]
    assert shown == [f"{value:+.2f}" for value in saved.to_numpy().ravel()]


class Page(HTMLParser):
    """The parts of a page that matter for safety and for those who cannot see it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.texts, self.stack = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.stack.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append(data)
        if self.stack and self.stack[-1] == "script":
            self.scripts[-1] += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(built):
    return Page((built / "board" / "index.html").read_text())


def test_every_table_has_a_caption_and_every_header_a_scope(page):
    assert len(page.of("table")) == len(page.of("caption")) == 1
    assert {attributes["scope"] for attributes in page.of("th")} == {"col", "row", "rowgroup"}
    assert page.of("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.of("img"))


def test_only_the_own_script_may_run(page):
    _, script = page.scripts  # the first is data
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == [f"'sha256-{digest}'"]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_nothing_is_fetched_from_elsewhere(page, built):
    links = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert len(links) > 5
    here = {f"#{attributes['id']}" for _, attributes in page.tags if "id" in attributes}
    assert set(links) <= here | set(files_of(built / "board"))


def build_with_label(tmp_path, label):
    runs = [*row("dpo", table(0.3, 1), label=label), *row("kto", table(0.5, 2))]
    write_results(tmp_path / "results", runs, family=(label, "kto"))
    build(tmp_path / "results", tmp_path / "board")
    return tmp_path / "board"


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", "</table>", "$\\oops$", "50% & more"])
def test_a_label_is_only_text_on_the_page(tmp_path, label):
    page = Page((build_with_label(tmp_path, label) / "index.html").read_text())
    assert label in page.texts
    assert "<script>alert" not in "".join(page.scripts)


def test_a_label_opens_no_cell_in_markdown(tmp_path):
    lines = (build_with_label(tmp_path, "a|b") / "README.md").read_text().splitlines()
    cells = {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}
    assert len(cells) == 1


def test_no_results_give_an_empty_board_that_says_what_to_do(tmp_path):
    assert build(tmp_path / "nothing", tmp_path / "board") == []
    assert "halobench run quickstart" in (tmp_path / "board" / "index.html").read_text()
    assert "halobench run quickstart" in (tmp_path / "board" / "README.md").read_text()
    assert stale_files(tmp_path / "nothing", tmp_path / "board") == []


def test_a_board_of_the_reference_alone_can_be_built(tmp_path):
    runs = [run for run in suite() if run.recipe.evaluate == "reference"]
    write_results(tmp_path / "results", runs)
    build(tmp_path / "results", tmp_path / "board")
    assert "reference" in (tmp_path / "board" / "README.md").read_text()


def test_a_suite_that_diverged_whole_can_be_built(tmp_path):
    runs = [Run(run.recipe, status="diverged") for run in row("kto", table(0.5, 1))]
    write_results(tmp_path / "results", runs)
    build(tmp_path / "results", tmp_path / "board")
    assert "3 of 3 seeds diverged" in (tmp_path / "board" / "README.md").read_text()


def test_rows_without_a_difference_are_shown_as_not_available(tmp_path):
    same = table(0.5, 1)
    write_results(tmp_path / "results", [*row("dpo", same), *row("kto", same)])
    build(tmp_path / "results", tmp_path / "board")
    [page] = (tmp_path / "board" / "setting").iterdir()
    texts = " ".join(Page(page.read_text()).texts)
    assert "nan" not in texts
    assert "n/a" in texts
