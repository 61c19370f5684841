"""Imports on the leaderboard: below the boards, as they came, ranked with nothing."""

import csv

import pandas as pd
import pytest

from halobench.leaderboard.build import build
from halobench.leaderboard.imported import imported_lines, imported_table
from halobench.results.imports import Import, ImportedScore, add_import
from halobench.results.store import Store
from tests.leaderboard.synthetic import row, write_results


def imported(source, *scores):
    facts = {"name": source, "source": source, "what": "numbers", "file": "f.json", "sha256": "0"}
    return Import(**facts, facts={}, drops={}, scores=scores)


WINRATE = ImportedScore(
    checkpoint="=mine|x",
    task="judged",
    metric="winrate",
    value=0.6,
    stderr=0.05,
    num_samples=98,
    counts={"n_null": 2},
)
LOSSES = [
    ImportedScore(checkpoint=f"step {step:07d}", task="train", metric="loss", value=value)
    for step, value in ((9, 0.75), (10, 0.5))
]


@pytest.fixture
def board(tmp_path):
    store = write_results(tmp_path / "results", [*row("dpo", [[0.5, 1.0], [0.0, 1.0]])])
    before = store.data_version()
    add_import(store, imported("alpaca-eval", WINRATE))
    add_import(store, imported("trl", *LOSSES))
    assert store.data_version() != before
    build(store.root, tmp_path / "board")
    return tmp_path / "board"


def test_a_failed_judgement_gives_the_rates_at_which_it_was_lost_or_won(board):
    table = pd.read_csv(board / "imported.csv").set_index("metric")
    # .6 of 98 is 58.8 wins, of 100 at least .588 and with two more at most .608
    assert tuple(table.loc["winrate", ["if_failed_lost", "if_failed_won"]]) == pytest.approx((0.588, 0.608))
    assert set(table["mark"]) == {"imported, never ranked"}
    assert len(table) == 3


def test_the_section_shows_the_last_step_and_counts_the_others(board):
    text = (board / "README.md").read_text()
    section = text[text.index("## Imported") :]
    assert "| alpaca-eval | alpaca-eval | =mine\\|x | judged | winrate | 0.6 | 0.05 | 98 | 2, so" in section
    assert "step 0000010" in section
    assert "step 0000009" not in section
    assert "1 numbers of earlier steps" in section
    assert "=mine" not in text[: text.index("## Imported")]


def test_no_name_of_others_is_a_formula_for_a_spreadsheet(board):
    with (board / "imported.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["checkpoint"] == "'=mine|x"


def test_without_imports_there_is_no_section_and_no_file(tmp_path):
    write_results(tmp_path / "results", [*row("dpo", [[0.5, 1.0], [0.0, 1.0]])])
    build(tmp_path / "results", tmp_path / "board")
    assert not (tmp_path / "board" / "imported.csv").exists()
    assert "## Imported" not in (tmp_path / "board" / "README.md").read_text()
    assert imported_lines(imported_table(Store(tmp_path / "results")))[1] == []
