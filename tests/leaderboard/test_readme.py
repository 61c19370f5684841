"""The tables of a README are those of the boards, and nothing else of it is touched."""

import numpy as np
import pytest

from halobench.leaderboard.build import build, stale_files
from tests.leaderboard.synthetic import row, write_results

BEGIN = "<!-- board synthetic: made by halobench leaderboard -->\n"
END = "<!-- end of board -->"


@pytest.fixture
def results(tmp_path):
    runs = [*row("dpo", np.full((3, 4), 0.25)), *row("kto", np.full((3, 4), 0.5))]
    write_results(tmp_path / "results", runs)
    return tmp_path / "results"


def test_a_block_is_filled_and_what_is_around_it_stays(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Mine\n\n{BEGIN}old\n{END}\n\nThe rest | of it.\n")
    build(results, tmp_path / "leaderboard")
    lines = readme.read_text().splitlines()
    assert lines[:3] == ["# Mine", "", BEGIN.strip()]
    assert lines[3] == "| Rank | Row | Win rate, T=1 | Seeds | Note |"
    # values that do not vary have no interval, and no order is established
    assert lines[5:7] == ["| 1-2 | kto | 0.500 | 3 |  |", "| 1-2 | dpo | 0.250 | 3 |  |"]
    assert lines[7:] == [END, "", "The rest | of it."]


def test_a_readme_with_other_tables_is_stale(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}{END}\n")
    build(results, tmp_path / "leaderboard")
    assert stale_files(results, tmp_path / "leaderboard") == []
    readme.write_text(readme.read_text().replace("0.500", "0.900"))
    assert stale_files(results, tmp_path / "leaderboard") == ["../README.md"]
    assert "0.900" in readme.read_text()  # looking writes nothing


def test_other_readmes_and_blocks_without_a_board_stay_as_they_are(results, tmp_path):
    text = "<!-- board elsewhere: made by halobench leaderboard -->\nx\n<!-- end of board -->\n"
    (tmp_path / "README.md").write_text(text)
    build(results, tmp_path / "leaderboard")
    assert (tmp_path / "README.md").read_text() == text
