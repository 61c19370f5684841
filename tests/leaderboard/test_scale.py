"""Stores of many runs: the index that spares reading them, and which boards are drawn."""

import os
import shutil

import numpy as np
import pytest

from halobench.leaderboard import build as building
from halobench.leaderboard import featured as choosing
from halobench.leaderboard.build import build, build_boards
from halobench.leaderboard.figures import make_plots
from halobench.leaderboard.gallery import draw
from halobench.results import index
from halobench.results.store import Store
from tests.leaderboard.many import LOSSES, NUM_PROMPTS, NUM_SEEDS, write_setting
from tests.leaderboard.synthetic import row, write_results
from tests.leaderboard.test_build import files_of

SUITES = ("a", "b", "c")


def runs_of(suite, num_seeds=3):
    number = SUITES.index(suite)
    stream = np.random.default_rng(number)
    return [
        run
        for loss in ("dpo", "kto")
        for run in row(
            loss, stream.integers(0, 3, (num_seeds, 8)) / 2, suite=suite, **{"data.num_pairs": 100 + number}
        )
    ]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Three boards, one of which is featured: a large store in little."""
    monkeypatch.setenv("HALOBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(building, "FEATURED", 1)
    monkeypatch.setattr(choosing, "FEATURED", 1)
    monkeypatch.setattr(building, "make_plots", lambda setting, tables: [])  # they take most of the time
    for suite in SUITES:
        write_results(tmp_path / "results", runs_of(suite, num_seeds=4 if suite == "b" else 3))
    return Store(tmp_path / "results")


def built(store, name="board", **how):
    build(store.root, store.root.parent / name, **how)
    return files_of(store.root.parent / name)


def indices(store):
    return sorted((store.root.parent / "home" / "index").glob("*.npz"))


def without_index(store, monkeypatch):
    """The board's files as a machine makes them that has never seen the store."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("HALOBENCH_HOME", str(store.root.parent / "elsewhere"))
        shutil.rmtree(store.root.parent / "elsewhere", ignore_errors=True)
        return built(store, "fresh")


def refuse(file):
    raise AssertionError(f"{file} was read")


def test_what_is_indexed_is_not_read_again(store, monkeypatch):
    first = built(store)
    assert len(indices(store)) == len(SUITES)
    monkeypatch.setattr(index, "read_means", refuse)
    assert built(store) == first


def test_a_small_store_has_no_index(store, monkeypatch):
    for module in (building, choosing):
        monkeypatch.setattr(module, "FEATURED", len(SUITES))
    built(store)
    assert indices(store) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"no index at all",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-30],
        lambda content: content.replace(b'"layout": 1', b'"layout": 0'),
        # a bit of the values, which the archive's own checksum finds
        lambda content: content[:-400] + bytes([content[-400] ^ 1]) + content[-399:],
    ],
)
def test_a_damaged_index_is_as_good_as_none(store, monkeypatch, damage):
    first = built(store)
    for file in indices(store):
        file.write_bytes(damage(file.read_bytes()))
    assert built(store) == first
    monkeypatch.setattr(index, "read_means", refuse)
    assert built(store) == first  # and is whole again


def test_half_an_index_changes_no_byte(store, monkeypatch):
    first = built(store)
    indices(store)[0].unlink()
    assert built(store) == first == without_index(store, monkeypatch)


def test_the_index_never_speaks_for_a_changed_file(store, monkeypatch):
    first = built(store)
    file = next(store.root.glob("runs/kto-*/scores/*.parquet"))
    before, content = file.stat(), file.read_bytes()
    other = next(
        f for f in store.root.glob("runs/dpo-*/scores/*.parquet") if f.stat().st_size == len(content)
    )
    file.write_bytes(other.read_bytes())  # the same size ...
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # ... and the same time
    after = built(store)
    assert after["leaderboard.csv"] != first["leaderboard.csv"]
    assert after == without_index(store, monkeypatch)


def test_added_and_removed_runs_are_noticed(store, monkeypatch):
    first = built(store)
    write_results(store.root, row("kto", np.ones((1, 8)), seeds=[7], suite="a"))
    added = built(store)
    assert added["leaderboard.csv"] != first["leaderboard.csv"]
    assert added == without_index(store, monkeypatch)
    shutil.rmtree(next(store.root.glob("runs/dpo-s0-*")))
    removed = built(store)
    assert removed["leaderboard.csv"] != added["leaderboard.csv"]
    assert removed == without_index(store, monkeypatch)


def test_a_home_that_cannot_be_written_to_goes_without_an_index(store, monkeypatch):
    first = built(store)
    (store.root.parent / "file").touch()
    monkeypatch.setenv("HALOBENCH_HOME", str(store.root.parent / "file"))
    assert built(store) == first


def test_processes_that_share_the_boards_change_no_byte(store, monkeypatch):
    monkeypatch.setattr(building, "make_plots", make_plots)
    assert built(store, "two", jobs=2) == built(store, "one")


def test_boards_of_a_large_store_do_not_hold_their_runs(store):
    boards = build_boards(store)
    assert len(boards) == len(SUITES)
    assert not any("rows" in vars(board.setting) for board in boards)
    assert [len(board.setting.rows) for board in boards] == [2, 2, 2]  # but read them when asked


def test_only_the_boards_with_most_runs_have_figures_and_the_others_say_so(store, monkeypatch):
    monkeypatch.setattr(building, "make_plots", make_plots)
    files = built(store)
    drawn = {name.split("/")[1].split("-")[0] for name in files if name.startswith("figures/")}
    assert drawn == {"b"}  # four seeds
    told = "Figures are drawn of the 1 boards with most runs; halobench plot {}-scores draws one"
    text = files["README.md"].decode()
    assert [told.format(suite) in text for suite in SUITES] == [True, False, True]


def test_boards_with_equally_many_runs_are_featured_in_order_of_suites(store, monkeypatch):
    monkeypatch.setattr(choosing, "FEATURED", 2)
    assert choosing.featured(build_boards(store)) == {"b", "a"}


def test_the_store_that_scale_is_measured_on_has_the_runs_that_it_promises(tmp_path):
    write_setting(tmp_path, 3)
    assert len(list(Store(tmp_path).records())) == len(LOSSES) * NUM_SEEDS
    [board] = build_boards(Store(tmp_path))
    rows = board.tables.rows.set_index("row").loc[list(LOSSES)]
    assert set(rows["seeds"]) == {NUM_SEEDS}
    assert {"winrate_low", "winrate_star_low", "utility_low", "accuracy_low"} <= set(rows.columns)
    assert len(board.tables.contrasts) == 2 * 45  # pairs of ten, at two temperatures
    assert set(board.tables.contrasts["num_prompts"]) == {NUM_PROMPTS}


def test_drawing_one_figure_makes_no_board_of_another_suite(store, monkeypatch):
    made = []
    make_tables = building.make_tables

    def noted(setting, comparisons):
        made.append(setting.suite)
        return make_tables(setting, comparisons)

    monkeypatch.setattr(building, "make_tables", noted)
    assert draw(store.root, "c-scores", {}).name == "scores"
    assert made == ["c"]
