"""`results export`: every score is a row; no cell is a formula."""

import csv

import pandas as pd
import pytest

from halobench.cli import main
from halobench.results.journal import retract
from halobench.results.store import Store
from halobench.results.tidy import tidy, write_csv
from tests.results.stores import make_run, write_store

KTO = make_run("kto").recipe.run_id


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "results")


@pytest.mark.parametrize(("option", "read"), [("--csv", pd.read_csv), ("--parquet", pd.read_parquet)])
def test_there_is_a_row_per_run_scorer_task_and_metric(store, tmp_path, option, read, capsys):
    retract(store, KTO, "wrong file")
    file = tmp_path / "out" / "scores"
    assert main(["results", "export", option, str(file), "--results", str(store.root)]) == 0
    assert "2 scores of 2 runs" in capsys.readouterr().out
    table = read(file).set_index("loss")
    assert sorted(table.index) == ["dpo", "kto"]
    row = table.loc["kto"]
    assert (row["run_id"], row["scorer"], row["task"], row["metric"]) == (KTO, "oracle", "T=1", "winrate")
    assert (row["value"], row["num_samples"], row["seed"]) == (0.5, 3, 0)
    assert list(table.loc[["dpo", "kto"], "retracted"]) == [False, True]


def test_a_text_that_a_spreadsheet_would_run_is_quoted_and_numbers_are_not(store, tmp_path):
    evil = ["=cmd()", "+1", "-1", "@sum", "\tx", "\r=x"]
    table = pd.DataFrame({"text": [*evil, "kto, 1"], "value": [-1.5] * 7})
    write_csv(table, tmp_path / "evil.csv")
    with (tmp_path / "evil.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0] for row in rows] == [*(f"'{text}" for text in evil), "kto, 1"]
    assert {row[1] for row in rows} == {"-1.5"}


def test_an_empty_store_gives_the_same_columns(tmp_path, store):
    (tmp_path / "empty").mkdir()
    assert list(tidy(Store(tmp_path / "empty")).columns) == list(tidy(store).columns)
