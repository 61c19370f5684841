"""Per-prompt means of score files, and which of them belong to a row."""

import numpy as np
import pandas as pd
import pytest

from halobench.errors import ResultsError
from halobench.results.index import read_means
from halobench.results.store import Store
from tests.leaderboard.synthetic import by_row, read_board, row, write_results, write_scores

WINS = np.array([[0.0, 0.5, 1.0, 0.5], [0.5, 0.5, 1.0, 0.0], [0.0, 1.0, 1.0, 0.5]])


def frame_of(*lines):
    frame = pd.DataFrame(lines, columns=["prompt_id", "decode", "rep", "metric", "value"])
    return frame.astype({"rep": "int16", "value": "float32"})


def test_samples_of_a_prompt_are_averaged_and_prompts_come_by_name(tmp_path):
    frame = frame_of(
        ("b", "T=1", 0, "winrate", 1.0),
        ("a", "T=1", 1, "winrate", 0.5),
        ("b", "T=1", 1, "winrate", 0.0),
        ("a", "T=1", 0, "winrate", 0.25),
        ("b", "T*", 0, "winrate", 1.0),
        ("a", "T=1", 0, "kl", 3.0),
        ("a", "T=1", 1, "kl", float("nan")),  # does not count
        ("c", "T=1", 0, "kl", float("nan")),
    )
    frame.to_parquet(tmp_path / "scores.parquet", index=False)
    found = read_means(tmp_path / "scores.parquet")
    assert {key: values.prompt_ids for key, values in found.items()} == {
        ("T=1", "winrate"): ("a", "b"),
        ("T*", "winrate"): ("b",),
        ("T=1", "kl"): ("a", "c"),
    }
    assert found["T=1", "winrate"].means.tolist() == [0.375, 0.5]
    assert found["T*", "winrate"].means.tolist() == [1.0]
    assert found["T=1", "kl"].means == pytest.approx([3.0, float("nan")], nan_ok=True)


def test_means_are_those_that_pandas_makes(tmp_path):
    stream = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "prompt_id": [f"p{stream.integers(40)}" for _ in range(3000)],
            "decode": stream.choice(["T=1", "T*", "greedy"], 3000),
            "rep": np.arange(3000, dtype="int16"),
            "metric": stream.choice(["utility", "kl"], 3000),
            "value": stream.normal(0, 1, 3000).astype("float32"),
        }
    )
    # several row groups, each with its own dictionary
    frame.to_parquet(tmp_path / "scores.parquet", index=False, row_group_size=700)
    means = frame.astype({"value": float}).groupby(["decode", "metric", "prompt_id"])["value"].mean()
    found = read_means(tmp_path / "scores.parquet")
    assert found.keys() == {key[:2] for key in means.index}
    for key, values in found.items():
        assert list(values.prompt_ids) == list(means.loc[key].index)
        assert values.means == pytest.approx(means.loc[key].to_numpy(), rel=1e-6)


def test_a_file_without_rows_has_no_means(tmp_path):
    frame_of().to_parquet(tmp_path / "scores.parquet", index=False)
    assert read_means(tmp_path / "scores.parquet") == {}


@pytest.mark.parametrize("content", [b"", b"PAR1 and then something else"])
def test_a_file_that_is_no_table_is_named(tmp_path, content):
    (tmp_path / "scores.parquet").write_bytes(content)
    with pytest.raises(ResultsError, match=r"scores\.parquet: .*is the file whole\?"):
        read_means(tmp_path / "scores.parquet")


def rescored(store, loss, values, config_id):
    """Score the runs of a loss again, in another configuration."""
    for run in row(loss, values):
        write_scores(store.run_path(run.recipe.run_id), run, config_id=config_id)


def test_a_row_is_shown_as_most_of_its_own_seeds_were_scored(tmp_path):
    store = write_results(tmp_path, [*row("kto", WINS), *row("dpo", WINS)])
    rescored(store, "dpo", WINS / 2, "00000000")
    for file in store.root.glob("runs/dpo-s0-*/scores/oracle-0123abcd.*"):
        file.unlink()
    rows = by_row(read_board(store))
    # three seeds of dpo against two
    assert rows.loc["dpo", "winrate"] == pytest.approx(WINS.mean() / 2)
    assert rows.loc["kto", "winrate"] == pytest.approx(WINS.mean())


def test_rows_scored_in_different_configurations_are_not_compared_and_told(tmp_path):
    store = write_results(tmp_path, [*row("kto", WINS), *row("dpo", WINS)])
    for file in store.root.glob("runs/dpo-*/scores/oracle-0123abcd.*"):
        file.rename(file.with_name(file.name.replace("0123abcd", "fedcba98")))
    board = read_board(store)
    assert board.tables.contrasts.empty
    assert list(by_row(board)["winrate"]) == pytest.approx([WINS.mean()] * 2)
    assert "Not comparable: oracle scored dpo and kto in different configurations." in board.tables.notes


def test_a_setting_that_was_released_reads_its_runs_again(tmp_path):
    board = read_board(write_results(tmp_path, row("kto", WINS)))
    before = board.setting.prompts(board.setting.rows[0], 1, "oracle", "T=1", "winrate")
    board.setting.release()
    [again] = board.setting.rows
    after = board.setting.prompts(again, 1, "oracle", "T=1", "winrate")
    assert list(after) == list(before) == [0.5, 0.5, 1.0, 0.0]
    assert list(after.index) == ["p000", "p001", "p002", "p003"]


def test_a_store_without_suites_has_no_boards(tmp_path):
    from halobench.leaderboard.cube import load_settings

    assert load_settings(Store(tmp_path)) == []
