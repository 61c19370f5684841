"""Data sets that come in parts: which part is read, and what is told where there is no such part."""

import gzip
import json

import datasets
import pytest

from halobench.check.sources import open_source
from halobench.errors import DataError
from halobench.registry import SOURCES
from halobench.sections import Data


def talk(question, answer):
    return f"\n\nHuman: {question}\n\nAssistant: {answer}"


def pairs_about(word, num_pairs):
    return [
        {"chosen": talk(f"{word} {n}", "yes"), "rejected": talk(f"{word} {n}", "no")}
        for n in range(num_pairs)
    ]


@pytest.fixture
def folder(tmp_path):
    """HH as it is published: a folder for each part."""
    for part, word in (("helpful-base", "help"), ("harmless-base", "harm")):
        (tmp_path / part).mkdir()
        for split, num_pairs in (("train", 40), ("test", 5)):
            with gzip.open(tmp_path / part / f"{split}.jsonl.gz", "wt") as file:
                file.writelines(json.dumps(row) + "\n" for row in pairs_about(f"{split} {word}", num_pairs))
    (tmp_path / "README.md").write_text("about it")
    return tmp_path


def questions(source):
    """First words of the train prompts, and of the test prompts."""
    train = source.feedback(num_pairs=None, split_seed=0).responses.values()
    test = source.prompt_set("test").rows
    return [{row.prompt[0].content.split()[1] for row in rows} for rows in (train, test)]


def opened(source, path, subset=None):
    return open_source(Data(source=source, path=None if path is None else str(path), subset=subset), 0)


def test_a_part_of_a_folder_is_the_folder_of_that_name(folder):
    whole, helpful = opened("hh", folder), opened("hh", folder, "helpful-base")
    assert questions(whole) == [{"help", "harm"}] * 2
    assert questions(helpful) == [{"help"}] * 2
    assert questions(opened("hh", folder, "harmless-base")) == [{"harm"}] * 2
    train = [s.feedback(num_pairs=None, split_seed=0).fingerprint.num_pairs for s in (whole, helpful)]
    assert train[0] > train[1] > 30


def test_a_part_is_other_content(folder):
    ids = {opened("hh", folder, part).content_id for part in (None, "helpful-base", "harmless-base")}
    assert len(ids) == 3


def test_a_part_that_is_not_there_is_refused_with_those_that_are(folder):
    with pytest.raises(DataError) as refused:
        opened("hh", folder, "helpful")
    assert refused.value.problems == (
        f"data.subset = 'helpful': no such folder in {folder}; there are harmless-base, helpful-base",
    )


def test_no_part_lies_outside_of_the_folder(folder):
    for outside in ("..", ".", "helpful-base/..", str(folder / "helpful-base")):
        with pytest.raises(DataError, match="no such folder"):
            opened("hh", folder, outside)


def test_what_does_not_come_in_parts_has_none(folder):
    part = folder / "helpful-base"
    with pytest.raises(DataError, match="it has no folders with rows; drop it"):
        opened("hh", part, "train")
    with pytest.raises(DataError, match="is one file and has no parts; drop it"):
        opened("hh", part / "train.jsonl.gz", "helpful-base")
    for name in ("cafe", "jsonl", "ultrafeedback"):
        with pytest.raises(DataError) as refused:
            opened(name, folder, "helpful-base")
        assert refused.value.problems == (
            f"data.subset = 'helpful-base': {name!r} does not come in parts; drop it, or use one of "
            "hh, safe_rlhf, safe_rlhf_harmless, shp, stack_exchange",
        )


@pytest.mark.parametrize(
    ("name", "subset", "asked"),
    [
        ("hh", "helpful-base", {"data_dir": "helpful-base"}),
        ("shp", "askvet", {"data_dir": "askvet"}),
        ("safe_rlhf", "alpaca-7b", {"name": "alpaca-7b"}),
        ("safe_rlhf_harmless", "alpaca-7b", {"name": "alpaca-7b"}),
        ("hh", None, {}),
    ],
)
def test_the_hub_is_asked_for_a_folder_or_a_configuration(monkeypatch, name, subset, asked):
    def load_dataset(path, *, cache_dir, **part):
        assert path == SOURCES[name].hub_id
        assert part == asked
        raise ValueError("BuilderConfig not found.\nAvailable: ['a', 'b']")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as refused:
        opened(name, None, subset)
    [problem] = refused.value.problems
    told = "" if subset is None else f" with data.subset = {subset!r}"
    assert problem.startswith(f"data.path = {SOURCES[name].hub_id!r}{told}: neither a file")
    assert "Available: ['a', 'b']" in problem


def test_real_transcripts_by_part(shared_data):
    # ../shared/data/README.md: of 1200 train rows each, one helpful and no harmless one has identical sides
    sources = {
        part: opened("hh", shared_data / "hh-rlhf", part) for part in ("helpful-base", "harmless-base")
    }
    both = opened("hh", shared_data / "hh-rlhf")
    train = {part: source.feedback(num_pairs=None, split_seed=0) for part, source in sources.items()}
    assert train["helpful-base"].drops["both answers are the same"] == 1
    assert "both answers are the same" not in train["harmless-base"].drops
    whole = both.feedback(num_pairs=None, split_seed=0)
    assert whole.fingerprint.num_pairs <= sum(part.fingerprint.num_pairs for part in train.values())
    assert {part.fingerprint.sha256 for part in train.values()}.isdisjoint({whole.fingerprint.sha256})
