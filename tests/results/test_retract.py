"""`results retract`: a run leaves the board with a reason, and stays in the store as it is."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from halobench.cli import main
from halobench.errors import ResultsError
from halobench.results.journal import RETRACTIONS, retract, retractions
from halobench.results.store import Store
from halobench.results.validate import validate
from tests.leaderboard.synthetic import by_row, read_board, row, write_results
from tests.results.stores import make_run, write_store

RUN = make_run("kto").recipe.run_id
OTHER = make_run("dpo").recipe.run_id
TABLE = [[1.0, 0.0, 0.5, 1.0], [1.0, 1.0, 0.5, 0.0], [0.0, 1.0, 0.5, 0.0]]


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "results")


def test_a_retraction_is_a_line_and_changes_nothing_else(store):
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    version = store.data_version()
    retract(store, RUN, "a wrong\nfile ", superseded_by=OTHER)
    [line] = (store.root / RETRACTIONS).read_text().splitlines()
    document = json.loads(line)
    assert document.pop("date")
    assert document == {"run_id": RUN, "reason": "a wrong file", "superseded_by": OTHER}
    assert {path: path.read_bytes() for path in before} == before
    assert store.data_version() != version
    assert validate(store).problems == []


def test_a_second_line_is_added_behind_the_first(store):
    retract(store, RUN, "first")
    first = (store.root / RETRACTIONS).read_text()
    retract(store, OTHER, "second")
    assert (store.root / RETRACTIONS).read_text().startswith(first)
    assert list(retractions(store)) == [RUN, OTHER]


def test_retractions_at_the_same_time_are_all_kept(tmp_path):
    runs = [make_run("kto", seed=seed) for seed in range(8)]
    store = write_store(tmp_path / "results", *runs)
    ids = [run.recipe.run_id for run in runs]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run_id: retract(store, run_id, "all"), ids))
    assert sorted(retractions(store)) == sorted(ids)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("kto-s0-0", "x"), "run 'kto-s0-0': is not in"),
        ((RUN, "  "), "--reason: is empty"),
        ((RUN, "x", "kto-s0-0"), "run 'kto-s0-0': is not in"),
        ((RUN, "x", RUN), f"--superseded-by '{RUN}': is retracted itself"),
        ((OTHER, "again"), r"was retracted on .* \(once\); a retraction is never changed"),
        ((RUN, "x", OTHER), f"--superseded-by '{OTHER}': is retracted itself"),
    ],
)
def test_what_cannot_be_retracted_is_told_and_nothing_is_written(store, arguments, told):
    retract(store, OTHER, "once")
    before = (store.root / RETRACTIONS).read_text()
    with pytest.raises(ResultsError, match=told):
        retract(store, *arguments)
    assert (store.root / RETRACTIONS).read_text() == before


@pytest.mark.parametrize("text", ["{", '{"run_id": "x"}', "[]", "\n"])
def test_a_damaged_journal_is_told_by_its_line(store, text):
    retract(store, RUN, "once")
    with (store.root / RETRACTIONS).open("a") as file:
        file.write(text + "\n")
    with pytest.raises(ResultsError, match=rf"{RETRACTIONS}:2: "):
        retractions(store)
    assert any(f"{RETRACTIONS}:2: " in line for line in validate(store).problems)


def test_journals_name_recorded_runs_once(store):
    retract(store, RUN, "once")
    file = store.root / RETRACTIONS
    line = file.read_text()
    file.write_text(line + line + line.replace(RUN, "kto-s0-0"))
    told = "\n".join(validate(store).problems)
    assert "kto-s0-0: is not recorded; add its run" in told
    assert "retracts a run twice" in told


def test_a_retracted_run_is_off_the_board_which_says_why(tmp_path):
    runs = [*row("kto", TABLE), *row("dpo", TABLE[::-1])]
    store = write_results(tmp_path, runs)
    gone = runs[0].recipe.run_id
    retract(store, gone, "trained on a wrong file")
    board = read_board(store)
    assert by_row(board).loc["kto", "seeds"] == 2
    assert by_row(board).loc["kto", "seeds_missing"] == 0  # it was there, and is not asked for again
    # means of the two seeds that are left: 2.5 / 4 and 1.5 / 4
    assert by_row(board).loc["kto", "winrate"] == pytest.approx(0.5)
    assert f"1 runs of the suite are retracted ({gone}: trained on a wrong file)." in board.tables.notes
    assert store.has_run(gone)


def test_nothing_is_left_of_a_board_whose_runs_are_all_retracted(tmp_path):
    runs = row("kto", TABLE[:1])
    store = write_results(tmp_path, runs)
    retract(store, runs[0].recipe.run_id, "x")
    assert main(["leaderboard", "--results", str(tmp_path)]) == 0


def test_the_verb_retracts_and_the_list_says_so(store, capsys):
    results = ["--results", str(store.root)]
    assert main(["results", "retract", RUN, "--reason", "wrong file", *results]) == 0
    assert "retracted" in capsys.readouterr().out
    assert main(["list", "runs", *results]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith(", retracted: wrong file")] == [RUN]
    assert main(["results", "retract", RUN, "--reason", "again", *results]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_empty_store_has_no_retractions(tmp_path):
    assert retractions(Store(tmp_path)) == {}
