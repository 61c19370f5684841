"""The verb `data`: what a recipe's base selection is made of, by loss and by set of prompts."""

import json

import pytest
import yaml

from halobench.cli import main
from halobench.compose import compose
from halobench.materials import Materials
from halobench.results.record import DataFacts
from halobench.run import _data_facts
from tests.leaderboard.synthetic import ARCHITECTURE

TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"<end>": 0, "yes": 1, "no": 2}, "unk_token": "no"},
}


@pytest.fixture
def recipe(tmp_path):
    """40 train pairs, one with identical sides and one that is held out too; 10 dev and 10 test pairs."""
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [{"prompt": f"say {n}", "chosen": "yes yes yes", "rejected": "no"} for n in range(60)]
    rows[7]["rejected"] = "yes yes yes"
    splits = {"train": [*rows[:40], rows[45]], "dev": rows[40:50], "test": [*rows[50:59], {**rows[3]}]}
    splits["test"][-1]["prompt"] = "Say, 3!"  # another group, and the same words as in train
    for split, found in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    document = {
        "data": {"source": "jsonl", "path": str(folder)},
        "model": {
            "architecture": ARCHITECTURE,
            "tokenizer": {"path": str(tmp_path / "tokenizer.json"), "eos": "<end>"},
        },
        "optim": {"lr": 0.001},
        "scoring": {"scorers": ["implied_reward"]},
        "split_seed": 0,
        "matrix": {
            "loss": ["dpo", "sft", {"name": "kto", "lambda_d": 3}],
            "data.desirable_fraction": [1, 0.5],
            "seed": [0, 1],
        },
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def report(capsys, *arguments):
    assert main(["data", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_selection_is_reported_once_for_all_its_runs(recipe, capsys):
    document = json.loads(report(capsys, recipe, "--json"))
    assert document["suite"] == "recipe"
    [found] = document["selections"]
    assert found["rows"] == {"train": 39, "dev": 10, "test": 10}
    assert found["drops"] == {"both answers are the same": 1, "group occurs in a held-out split": 1}
    assert (found["num_pairs"], found["num_prompts"], found["num_responses"]) == (39, 39, 78)
    assert (found["num_desirable"], found["num_undesirable"], found["num_contradictions"]) == (39, 39, 0)
    assert found["sources"] == {"jsonl": 39}
    assert found["words"]["desirable"] == {"mean": 3, "median": 3, "longest": 3}
    assert found["tokens"]["undesirable"] == {"mean": 2, "median": 2, "longest": 2}  # with the end marker
    assert found["lost"] == {}
    assert len(found["sha256"]) == 64


def test_views_are_counted_by_kind_of_loss(recipe, capsys):
    [found] = json.loads(report(capsys, recipe, "--json"))["selections"]
    views = {(view["kind"], view["changes"].get("desirable_fraction", 1)): view for view in found["views"]}
    counts = {key: (view["desirable"], view["undesirable"]) for key, view in views.items()}
    assert counts == {
        ("Pairs", 1): (39, 39),
        ("Demonstrations", 1): (39, 0),
        ("Binary", 1): (39, 39),
        ("Pairs", 0.5): (20, 20),  # half of 39, rounded up
        ("Demonstrations", 0.5): (20, 0),
        ("Binary", 0.5): (20, 39),
    }
    assert views["Binary", 1]["lambda_ratio"] == pytest.approx(3)
    assert views["Binary", 0.5]["lambda_ratio"] == pytest.approx(3 * 20 / 39)
    assert views["Pairs", 1]["lambda_ratio"] is None
    assert views["Binary", 1]["rows"] == ["kto"]


def test_what_a_view_ignores_makes_no_line_of_its_own(recipe, capsys):
    arguments = ["data.desirable_fraction=1", "data.contradictions=[keep, drop]", "--json"]
    recipe.write_text(recipe.read_text().replace("matrix:", "matrix:\n  data.contradictions: [keep]"))
    [found] = json.loads(report(capsys, recipe, *arguments))["selections"]
    lines = [(view["kind"], view["changes"]) for view in found["views"]]
    settled = {"contradictions": "drop"}
    assert lines.count(("Pairs", {})) == 1
    assert ("Pairs", settled) not in lines
    assert ("Binary", settled) in lines


def test_leaks_are_counted_by_set_and_shown(recipe, capsys):
    [found] = json.loads(report(capsys, recipe, "--json"))["selections"]
    leaks = {name: (each["num_texts"], each["num_exact"]) for name, each in found["leakage"].items()}
    assert leaks == {
        "dev prompts": (10, 0),
        "test prompts": (10, 1),
        "prompts of implied_reward": (10, 1),
        "dev answers": (2, 0),  # too short to be told
        "test answers": (2, 0),
    }
    [leak] = found["leakage"]["test prompts"]["examples"]
    assert leak == {"train": "say 3", "held_out": "Say, 3!", "shared": "say 3"}


def test_the_report_is_text_that_a_person_can_read(recipe, capsys):
    text = report(capsys, recipe)
    lines = [line.split() for line in text.splitlines()]
    assert "dropped: both answers are the same 1".split() in lines
    assert ["test", "prompts:", "'say", "3'"] in lines
    assert ["Binary", "39", "39", "39", "3.000", "kto"] in lines
    assert all(len(line) < 120 for line in text.splitlines())


def test_each_seed_that_draws_its_own_selection_has_a_report(recipe, capsys):
    document = json.loads(report(capsys, recipe, "split_seed=seed", "data.num_pairs=30", "--json"))
    assert [found["split_seed"] for found in document["selections"]] == [0, 1]
    assert len({found["sha256"] for found in document["selections"]}) == 2


def test_a_record_has_the_counts_of_the_report(recipe):
    materials = Materials(compose(recipe, ["loss=sft", "seed=0"]).recipes[0])
    facts = _data_facts(materials, {})
    assert (facts.num_responses, facts.num_contradictions) == (78, 0)
    assert facts.mean_words == {"desirable": 3, "undesirable": 1}
    assert facts.leaked == {"test prompts": 1, "prompts of implied_reward": 1}


def test_a_record_from_before_these_counts_is_still_read():
    old = {"sha256": "0", "num_prompts": 1, "num_pairs": 1, "num_desirable": 1, "num_undesirable": 1}
    old |= {"drops": {}, "view": "Pairs", "view_desirable": 1, "view_undesirable": 1, "truncated": {}}
    facts = DataFacts.model_validate(old)
    assert (facts.num_responses, facts.mean_words, facts.leaked) == (None, None, None)
