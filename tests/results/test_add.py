"""`results add`: the facts of two stores become one, all of them or nothing."""

import shutil

import pytest

from halobench.cli import main
from halobench.errors import ResultsError
from halobench.results import merge
from halobench.results.journal import retract, retractions
from halobench.results.merge import add
from halobench.results.store import RECORD, Store
from halobench.results.validate import validate
from tests.results.stores import PROMPTS, change_rows, make_run, write_store

KTO, DPO = make_run("kto"), make_run("dpo")


def files_of(store):
    return {str(f.relative_to(store.root)): f.read_bytes() for f in store.root.rglob("*") if f.is_file()}


@pytest.fixture
def mine(tmp_path):
    return write_store(tmp_path / "mine", KTO)


@pytest.fixture
def theirs(tmp_path):
    return write_store(tmp_path / "theirs", DPO)


def test_two_stores_become_one_that_is_valid(mine, theirs):
    expected = files_of(mine) | files_of(theirs)
    added = add(theirs.root, mine)
    assert (added.num_runs, added.num_same, added.left) == (1, 0, [])
    assert files_of(mine) == expected
    assert validate(mine).problems == []


def test_adding_again_changes_nothing(mine, theirs):
    add(theirs.root, mine)
    before = files_of(mine)
    added = add(theirs.root, mine)
    assert (added.num_runs, added.num_same, added.num_files) == (0, 1, 0)
    assert files_of(mine) == before


def test_a_store_is_made_where_there_is_none(tmp_path, theirs):
    add(theirs.root, Store(tmp_path / "new"))
    assert files_of(Store(tmp_path / "new")) == files_of(theirs)


def test_one_run_is_added_with_its_prompts(tmp_path, theirs):
    new = Store(tmp_path / "new")
    add(theirs.run_path(DPO.recipe.run_id), new)
    assert new.run_ids() == [DPO.recipe.run_id]
    assert [file.stem for file in new.root.glob("promptsets/*")] == [PROMPTS.sha256[:12]]
    assert validate(new).problems == []


def test_the_same_run_with_other_digests_is_an_error_that_names_both(mine, tmp_path):
    other = write_store(tmp_path / "other", make_run("kto", wins=[1, 1, 1]), DPO)
    before = files_of(mine)
    with pytest.raises(ResultsError) as caught:
        add(other.root, mine)
    assert len(caught.value.problems) == 2  # the rows and their aggregates
    for problem in caught.value.problems:
        assert str(mine.root) in problem
        assert str(other.root) in problem
        assert "came out differently" in problem
    assert files_of(mine) == before


def test_a_store_with_a_problem_is_refused_whole(mine, theirs):
    change_rows(theirs.run_path(DPO.recipe.run_id), lambda rows: rows[1:])
    before = files_of(mine)
    with pytest.raises(ResultsError) as caught:
        add(theirs.root, mine)
    assert "prompts are missing" in caught.value.problems[0] or len(caught.value.problems) > 1
    assert caught.value.problems[-1].endswith("nothing was added; mend it first")
    assert files_of(mine) == before


def test_a_link_in_a_run_is_not_followed(mine, theirs):
    folder = theirs.run_path(DPO.recipe.run_id)
    (folder / "secret").symlink_to("/etc/hosts")
    for path in (theirs.root, folder):
        with pytest.raises(ResultsError, match="is a link"):
            add(path, mine)


def test_a_failure_while_files_take_their_places_leaves_nothing(mine, theirs, monkeypatch):
    before = files_of(mine)
    rename = merge.Path.rename

    def fail(self, target):
        if self.name == RECORD:
            raise OSError("disk full")
        return rename(self, target)

    monkeypatch.setattr(merge.Path, "rename", fail)
    with pytest.raises(OSError, match="disk full"):
        add(theirs.root, mine)
    assert files_of(mine) == before


def test_scores_that_were_added_later_join_the_run(tmp_path, mine):
    other = write_store(tmp_path / "other", KTO)
    extra = other.run_path(KTO.recipe.run_id) / "timing.json"
    extra.write_text('{"align": {"wall": 3}}')
    assert add(other.root, mine).num_files == 1
    assert (mine.run_path(KTO.recipe.run_id) / "timing.json").read_bytes() == extra.read_bytes()


def test_retractions_come_along_once(mine, theirs):
    retract(theirs, DPO.recipe.run_id, "wrong file")
    assert add(theirs.root, mine).num_lines == 1
    assert add(theirs.root, mine).num_lines == 0
    assert retractions(mine).keys() == {DPO.recipe.run_id}
    assert validate(mine).problems == []


def test_what_is_no_fact_about_runs_is_left_out_and_told(mine, theirs, capsys):
    (theirs.root / "bench").mkdir()
    shutil.copy(theirs.run_path(DPO.recipe.run_id) / RECORD, theirs.root / "bench")
    assert main(["results", "add", str(theirs.root), "--results", str(mine.root)]) == 0
    text = capsys.readouterr().out
    assert "1 runs added, 0 were there" in text
    assert "left out, as they are no facts about runs: bench" in text
    assert not (mine.root / "bench").exists()


@pytest.mark.parametrize(
    ("path", "told"),
    [("nowhere", "no such folder"), ("mine", "is in .* already"), ("empty", "holds no results")],
)
def test_what_is_no_other_store_is_refused(tmp_path, mine, path, told):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match=told):
        add(tmp_path / path, mine)
