"""The store: facts are added whole, never changed, and read back; copies of it say the same."""

import json
import shutil

import pandas as pd
import pytest

from halobench.errors import ResultsError
from halobench.feedback import EvaluationPrompt, Message, PromptSet
from halobench.results.store import RECORD, Store
from halobench.storage import canonical_json
from tests.leaderboard.synthetic import Run, make_recipe, make_record, row, write_results, write_scores

WINS = [[1.0, 0.0, 0.5], [1.0, 1.0, 0.5]]
COLUMNS = [
    *("run_id", "loss", "seed", "status", "kind", "setting_id", "method_id", "scorer", "task", "metric"),
    *("value", "stderr", "num_samples", "higher_is_better"),
]


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill_with(run, files, extra=()):
    """A `fill` that writes a record of `files` and their texts."""

    def fill(folder):
        for name, text in [*files.items(), *extra]:
            (folder / name).write_text(text)
        digests = {name: f"digest of {text}" for name, text in files.items()}
        (folder / RECORD).write_text(make_record(run, (), digests).model_dump_json())

    return fill


@pytest.fixture
def run():
    return Run(make_recipe())


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def test_a_run_is_added_whole(store, run):
    name = run.recipe.run_id
    store.add_run(name, fill_with(run, {"curves": "1"}))
    assert store.run_ids() == [name]
    assert sorted(files_of(store.root)) == [f"runs/{name}/curves", f"runs/{name}/run.json"]
    assert store.record(name).run_id == name


def test_a_run_that_fails_while_it_is_written_leaves_nothing(store, run):
    def fail(folder):
        (folder / "curves").write_text("1")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.add_run(run.recipe.run_id, fail)
    assert not store.has_run(run.recipe.run_id)
    assert files_of(store.root) == {}


def test_a_folder_without_a_record_is_no_run(store, run):
    store.run_path(run.recipe.run_id).mkdir(parents=True)
    assert not store.has_run(run.recipe.run_id)
    assert store.run_ids() == []
    store.add_run(run.recipe.run_id, fill_with(run, {}))
    assert store.has_run(run.recipe.run_id)


def test_the_same_run_again_changes_nothing(store, run):
    name = run.recipe.run_id
    store.add_run(name, fill_with(run, {"curves": "1"}, extra=[("timing.json", "{}")]))
    before = files_of(store.root)
    store.add_run(name, fill_with(run, {"curves": "1"}, extra=[("timing.json", '{"align": 2}')]))
    assert files_of(store.root) == before


def test_a_run_that_comes_out_differently_is_an_error_and_overwrites_nothing(store, run):
    name = run.recipe.run_id
    store.add_run(name, fill_with(run, {"curves": "1", "samples": "a"}))
    before = files_of(store.root)
    with pytest.raises(ResultsError, match=rf"run {name}: came out differently than recorded \(curves\)"):
        store.add_run(name, fill_with(run, {"curves": "2", "samples": "a"}))
    assert files_of(store.root) == before


def test_an_unknown_run_is_told_with_its_folder(store):
    with pytest.raises(
        ResultsError, match=r"run 'kto-s0-0': is not in .*results; `halobench list runs` shows"
    ):
        store.record("kto-s0-0")


@pytest.mark.parametrize("pattern", ["runs/*/run.json", "runs/*/scores/*.json", "suites/*/*.json"])
@pytest.mark.parametrize("damage", ["unknown field", "half a file"])
def test_a_file_of_another_version_is_refused_by_name(store, pattern, damage):
    write_results(store.root, row("kto", WINS))
    file = next(store.root.glob(pattern))
    document = json.loads(file.read_text())
    (document["scores"][0] if "/scores/" in pattern else document)["mood"] = "good"
    file.write_text(canonical_json(document) if damage == "unknown field" else file.read_text()[:40])
    with pytest.raises(ResultsError) as caught:
        _read_everything(store)
    assert str(file) in str(caught.value)


def _read_everything(store):
    store.suites()
    return [store.score_files(record.run_id) for record in store.records()]


def test_a_suite_is_noted_once_and_a_changed_one_is_noted_beside_it(store):
    recipes = [make_recipe("kto"), make_recipe("dpo")]
    store.add_suite("study", recipes)
    first = files_of(store.root)
    assert [name.rpartition("/")[0] for name in first] == ["suites/study"]
    store.add_suite("study", recipes)
    assert files_of(store.root) == first
    store.add_suite("study", recipes[:1])
    assert files_of(store.root).items() > first.items()
    assert [[point.label for point in note.points] for note in store.suites()] in (
        [["kto"], ["kto", "dpo"]],
        [["kto", "dpo"], ["kto"]],
    )


def test_a_suite_in_a_folder_of_suites_is_found_again(store):
    store.add_suite("ablations/beta", [make_recipe()])
    assert [note.suite for note in store.suites()] == ["ablations/beta"]


PROMPTS = PromptSet((EvaluationPrompt("p0", "g0", (Message("user", "hi"),), ("good",), ("bad",)),))


def test_prompts_are_kept_once_under_their_digest(store):
    store.add_prompts(PROMPTS, with_texts=True)
    before = files_of(store.root)
    assert list(before) == [f"promptsets/{PROMPTS.sha256[:12]}.parquet"]
    store.add_prompts(PROMPTS, with_texts=True)
    assert files_of(store.root) == before


def test_texts_of_other_people_s_data_are_not_kept(store):
    store.add_prompts(PROMPTS, with_texts=False)
    [file] = (store.root / "promptsets").iterdir()
    assert pd.read_parquet(file).to_dict("records") == [{"prompt_id": "p0", "group_id": "g0"}]


def test_scoring_again_adds_a_file_and_keeps_the_record(store):
    [run, _] = row("kto", WINS)
    write_results(store.root, [run])
    name = run.recipe.run_id
    record = (store.run_path(name) / RECORD).read_bytes()
    assert not store.has_scores(name, "oracle", "ffffffff")
    write_scores(store.run_path(name), run, config_id="ffffffff")
    assert store.has_scores(name, "oracle", "ffffffff")
    found = [(file.scorer, file.config_id) for file in store.score_files(name)]
    assert found == [("oracle", "0123abcd"), ("oracle", "ffffffff")]
    assert (store.run_path(name) / RECORD).read_bytes() == record


def test_scores_whose_json_is_missing_are_not_there_yet(store):
    [run, _] = row("kto", WINS)
    write_results(store.root, [run])
    next(store.root.glob("runs/*/scores/*.json")).unlink()
    assert store.score_files(run.recipe.run_id) == []


def test_results_are_one_row_per_run_scorer_task_and_metric(store):
    write_results(store.root, row("kto", WINS))
    table = store.results()
    assert list(table.columns) == COLUMNS
    assert list(table["seed"]) == [0, 1]
    assert set(table["loss"]) == {"kto"}
    # means of [1, 0, .5] and of [1, 1, .5]
    assert list(table["value"]) == pytest.approx([0.5, 2.5 / 3], abs=1e-12)


def test_a_stage_is_listed_by_its_name_and_not_by_a_loss(store):
    write_results(store.root, row("kto", WINS, evaluate="reference", control=True))
    assert set(store.results()["loss"]) == {"reference"}


def test_an_empty_folder_has_the_same_columns(store):
    table = store.results()
    assert len(table) == 0
    assert list(table.columns) == COLUMNS


def test_the_data_version_is_of_the_content_and_not_of_place_order_or_timings(store, tmp_path):
    runs = [*row("kto", WINS), *row("dpo", WINS)]
    version = write_results(store.root, runs).data_version()
    copy = Store(tmp_path / "copy")
    for run in reversed(runs):
        shutil.copytree(store.run_path(run.recipe.run_id), copy.run_path(run.recipe.run_id))
    shutil.copytree(store.root / "suites", copy.root / "suites")
    (copy.run_path(runs[0].recipe.run_id) / "timing.json").write_text('{"align": {"wall": 3}}')
    (copy.root / "leaderboard").mkdir()
    assert copy.data_version() == version


def test_the_data_version_changes_with_runs_scores_and_suites(store):
    runs = row("kto", WINS)
    versions = [write_results(store.root, runs).data_version()]
    write_scores(store.run_path(runs[0].recipe.run_id), runs[0], config_id="ffffffff")
    versions.append(store.data_version())
    store.add_suite("other", [runs[0].recipe])
    versions.append(store.data_version())
    more = Run(make_recipe("dpo"))
    store.add_run(more.recipe.run_id, fill_with(more, {}))
    versions.append(store.data_version())
    assert len(set(versions)) == 4
