"""Several data sets as one: nothing is lost, nothing leaks, each has its share."""

import json
from collections import Counter
from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from halobench.check.sources import open_source
from halobench.compose import compose
from halobench.data.sources.files import HELD_OUT, FileSource, Row
from halobench.data.sources.mixture import Mixture
from halobench.data.views import make_view
from halobench.errors import DataError, RecipeError
from halobench.feedback import Message, response
from halobench.sections import Data, Part


def pair(question, source, group=None):
    prompt = (Message("user", question),)
    sides = [
        response(prompt, f"{side} {source}", group_id=group or question, source=source)
        for side in ("good", "bad")
    ]
    return Row(*sides)


class Rows(FileSource):
    """Rows that a test gives."""

    @classmethod
    def open(cls, *, path, world_seed):
        raise NotImplementedError


def source(name, train, test=(), dev=(), drops=None):
    """Pairs with the given questions."""
    splits = {"train": train, "test": test, "dev": dev}
    rows = {
        split: [row if isinstance(row, Row) else pair(row, name) for row in rows]
        for split, rows in splits.items()
    }
    return Rows(f"content of {name}", rows, drops or {})


def mixed(*parts, weights=None):
    """A mixture of named sources."""
    weights = weights or [None] * len(parts)
    told = [
        (Part(source=name, weight=weight), found)
        for (name, found), weight in zip(parts, weights, strict=True)
    ]
    return Mixture.open(path=None, world_seed=0, parts=told)


def counts(opened, num_pairs=None, split_seed=0):
    """Pairs of each part in the base selection."""
    feedback = opened.feedback(num_pairs=num_pairs, split_seed=split_seed)
    return Counter(feedback.responses[pair.winner].source for pair in feedback.pairs)


def questions(number, name="q"):
    return [f"{name} {n}" for n in range(number)]


def test_the_same_prompt_in_two_data_sets_is_twice_there():
    opened = mixed(("a", source("a", questions(5))), ("b", source("b", questions(5))))
    feedback = opened.feedback(num_pairs=None, split_seed=0)
    assert counts(opened) == {"a": 5, "b": 5}
    assert feedback.fingerprint.num_prompts == 5
    assert len(feedback.responses) == 20
    assert feedback.drops == {}


def test_what_is_held_out_in_one_part_never_trains_in_another():
    a = source("a", ["one", "two", "three"], test=["four"], dev=["five"])
    # the same turns in other words of the same letters, and a group of its own
    b = source("b", [pair("Four ", "b", "b1"), pair("FIVE", "b", "b2"), "six"], test=[pair("One", "b", "b3")])
    opened = mixed(("a", a), ("b", b))
    feedback = opened.feedback(num_pairs=None, split_seed=0)
    trained = {row.prompt[0].content for row in feedback.responses.values()}
    assert trained == {"two", "three", "six"}
    assert feedback.drops == {HELD_OUT: 3}
    assert {row.prompt[0].content for row in opened.prompt_set("test").rows} == {"four", "One"}
    assert {row.prompt[0].content for row in opened.prompt_set("dev").rows} == {"five"}


def test_drops_are_summed_under_the_names_of_the_parts():
    a, b = (source(name, questions(3, name), drops={"empty": n}) for name, n in (("a", 2), ("b", 3)))
    assert mixed(("a", a), ("b", b)).feedback(num_pairs=None, split_seed=0).drops == {
        "a: empty": 2,
        "b: empty": 3,
    }


def test_two_parts_of_one_source_are_told_apart():
    a, b = source("jsonl", questions(3, "a")), source("jsonl", questions(4, "b"))
    assert counts(mixed(("jsonl", a), ("jsonl", b))) == {"jsonl": 3, "jsonl (2)": 4}


@pytest.mark.parametrize(
    ("sizes", "weights", "num_pairs", "expected"),
    [
        ((100, 100), (1, 1), 10, (5, 5)),
        ((100, 100), (3, 1), 10, (8, 2)),  # 7.5 and 2.5: the first of two equal remainders
        ((100, 100, 100), (0.5, 0.3, 0.2), 7, (4, 2, 1)),  # 3.5, 2.1 and 1.4
        ((30, 100), (1, 1), None, (30, 30)),
        ((30, 100), (1, 3), None, (30, 90)),
        ((30, 100), (1, 4), None, (25, 100)),
        ((30, 100), (0.1, 0.7), None, (14, 100)),  # of 114, because 115 would take 101 of the second
    ],
)
def test_rows_are_drawn_in_proportion_to_the_weights(sizes, weights, num_pairs, expected):
    parts = [(str(n), source(str(n), questions(size, f"{n}"))) for n, size in enumerate(sizes)]
    found = counts(mixed(*parts, weights=weights), num_pairs)
    assert tuple(found[str(n)] for n in range(len(sizes))) == expected


@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0.1, 0.25, 1, 2, 3, 7])), min_size=2, max_size=4)
)
def test_the_largest_selection_has_the_proportions_and_none_larger_has(parts):
    sources = [(str(n), source(str(n), questions(size, f"{n}"))) for n, (size, _) in enumerate(parts)]
    weights = [weight for _, weight in parts]
    opened = mixed(*sources, weights=weights)
    found = counts(opened)
    total = sum(found.values())
    for n, (size, weight) in enumerate(parts):
        assert found[str(n)] <= size
        assert abs(found[str(n)] - total * weight / sum(weights)) < 1
    # one more of every kind of rounding would ask some part for more than it has
    shares = [(total + 1) * weight / sum(weights) for weight in weights]
    assert any(share > size for share, (size, _) in zip(shares, parts, strict=True))


def test_a_part_is_selected_as_it_would_be_alone_and_a_smaller_selection_is_a_part_of_a_larger_one():
    a, b = source("a", questions(40, "a")), source("b", questions(40, "b"))
    opened = mixed(("a", a), ("b", b), weights=[1, 1])

    def selected(found, num_pairs):
        rows = found.feedback(num_pairs=num_pairs, split_seed=2).responses.values()
        return {row.prompt[0].content for row in rows}

    assert selected(opened, 20) == selected(a, 10) | selected(b, 10)
    for smaller, larger in pairwise(selected(opened, 2 * n) for n in range(1, 41)):
        assert smaller < larger


def test_without_weights_a_selection_is_drawn_from_all_rows():
    opened = mixed(("a", source("a", questions(80, "a"))), ("b", source("b", questions(20, "b"))))
    assert sum(counts(opened, 50).values()) == 50
    assert 30 <= counts(opened, 50)["a"] <= 49  # 40 expected


def test_more_of_a_part_than_it_has_is_refused():
    a, b = source("a", questions(5, "a")), source("b", questions(50, "b"))
    opened = mixed(("a", a), ("b", b), weights=[1, 1])
    with pytest.raises(
        DataError, match="20 pairs by these weights take 10 of 'a', which has 5; ask for fewer"
    ):
        opened.check_selection(num_pairs=20)
    with pytest.raises(DataError, match="60 pairs are asked for but the train split has 55"):
        opened.check_selection(num_pairs=60)
    empty = mixed(("a", a), ("b", source("b", ["a 0"], test=["a 0"])))
    with pytest.raises(DataError, match=r"no row to train on in b; drop it from data\.parts"):
        empty.check_selection(num_pairs=None)


@pytest.mark.parametrize("kind", ["Pairs", "Binary"])
def test_noise_and_fractions_are_shares_of_each_part(kind):
    sizes = {"a": 200, "b": 30, "c": 10}
    opened = mixed(*((name, source(name, questions(size, name))) for name, size in sizes.items()))
    feedback = opened.feedback(num_pairs=None, split_seed=0)
    noisy = make_view(feedback, kind, label_noise=0.1)
    wrong = Counter(
        unit[0].response.source
        for unit in noisy.units.values()
        if unit[0].response.completion.startswith("bad")
    )
    assert wrong == {"a": 20, "b": 3, "c": 1}
    thin = make_view(feedback, kind, desirable_fraction=0.3)
    kept = Counter(row.response.source for row in thin.examples if row.desirable)
    assert kept == {"a": 60, "b": 9, "c": 3}


@pytest.fixture
def files(tmp_path):
    """Pairs, thumbs and scored answers."""
    rows = {
        "pairs": [{"prompt": f"p{n}", "chosen": "yes", "rejected": "no"} for n in range(60)],
        "thumbs": [
            {"prompt": f"t{n // 2}", "completion": str(n), "desirable": n % 2 == 0} for n in range(60)
        ],
        "scored": [{"prompt": f"s{n // 2}", "response": str(n), "helpfulness": n % 2 + 1} for n in range(60)],
    }
    for name, records in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    return tmp_path


def mixture(files, *names, **changes):
    parts = {
        "pairs": {"source": "trl", "path": str(files / "pairs.jsonl")},
        "thumbs": {"source": "jsonl", "path": str(files / "thumbs.jsonl")},
        "scored": {"source": "helpsteer2", "path": str(files / "scored.jsonl")},
        "labelled": {
            "source": "helpsteer2",
            "path": str(files / "scored.jsonl"),
            "binarise": {"rule": "best_vs_worst"},
        },
    }
    return {"source": "mixture", "parts": [parts[name] for name in names], **changes}


def test_parts_of_a_recipe_are_opened_and_mixed(files):
    opened = open_source(Data(**mixture(files, "pairs", "scored")), 0)
    assert set(counts(opened)) == {"trl", "helpsteer2"}
    assert opened.has_pairs
    single = open_source(Data(**mixture(files, "thumbs", "labelled")), 0)
    assert not single.has_pairs
    labels = single.feedback(num_pairs=None, split_seed=0).labels
    assert {label.origin for label in labels} == {"native", "score"}
    ids = {opened.content_id, single.content_id}
    ids.add(open_source(Data(**mixture(files, "scored", "pairs")), 0).content_id)
    weighed = mixture(files, "pairs", "scored")
    weighed["parts"] = [{**part, "weight": n + 1} for n, part in enumerate(weighed["parts"])]
    ids.add(open_source(Data(**weighed), 0).content_id)
    assert len(ids) == 4


def test_pairs_and_single_answers_do_not_mix(files):
    with pytest.raises(DataError) as refused:
        open_source(Data(**mixture(files, "pairs", "thumbs")), 0)
    assert refused.value.problems == (
        "data.parts: 'trl' has pairs and 'jsonl' single answers, and they do not mix; give parts of one "
        "kind, or label scored answers with binarise",
    )


@pytest.fixture
def problems(tmp_path, files):
    """The problems of a recipe with this section `data`."""

    def of(data):
        recipe = tmp_path / "recipe.yaml"
        document = {
            "data": data,
            "model": {"path": "none"},
            "loss": "kto",
            "optim": {"lr": 0.1},
            "scoring": {"scorers": ["implied_reward"]},
        }
        recipe.write_text(yaml.safe_dump(document))
        with pytest.raises(RecipeError) as refused:
            compose(recipe)
        found = [line for line in refused.value.problems if line.startswith("data")]
        return [line.replace(f" in {recipe}", "") for line in found]

    return of


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"source": "mixture"}, "data: source = 'mixture' needs parts, for example"),
        ({"source": "mixture", "parts": []}, "data: source = 'mixture' needs parts, for example"),
        ({"source": "hh", "parts": [{"source": "shp"}]}, "data: parts belong to source = 'mixture', and"),
        (
            {"source": "mixture", "path": "x", "subset": "y", "parts": [{"source": "shp"}]},
            "data: source = 'mixture' takes no path, subset; say it of each of the parts",
        ),
        (
            {"source": "mixture", "parts": [{"source": "shp", "weight": 1}, {"source": "hh"}]},
            "data: some of the parts have a weight and some have none; weigh all of them, or none",
        ),
        (
            {"source": "mixture", "parts": [{"source": "shp", "weight": 0}]},
            "data.parts.0.weight = 0: must be greater than 0",
        ),
        (
            {"source": "mixture", "parts": [{"source": "shp", "wieght": 1}]},
            "data.parts.0.wieght = 1: unknown key (did you mean 'weight'?)",
        ),
        (
            {"source": "mixture", "parts": [{"source": "mixture"}]},
            "data.parts.0: a mixture is no part of a mixture; name its parts instead",
        ),
        ({"source": "mixture", "parts": [{"path": "x"}]}, "data.parts.0.source"),
        (
            {"source": "mixture", "parts": [{"source": "cafe"}]},
            "data.parts.0: 'cafe' is a world, and only data sets can be mixed; drop it",
        ),
        (
            {"source": "mixture", "parts": [{"source": "trl", "path": "x", "pairing": "all"}]},
            "data.parts.0: data.pairing = 'all': 'trl' has no several scored answers to pair",
        ),
        (
            {"source": "oasst", "pairing": "all", "binarise": {"rule": "prompt_mean"}},
            "data: pairing = 'all' makes pairs of the scored answers, and binarise labels each; drop one",
        ),
        (
            {"source": "oasst", "binarise": {"rule": "threshold"}},
            "data.binarise: rule = 'threshold' needs the score that parts the thumbs; add at",
        ),
        (
            {"source": "oasst", "binarise": {"rule": "mean"}},
            "data.binarise.rule = 'mean': must be one of 'threshold', 'prompt_mean', 'best_vs_worst'",
        ),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(problems, data, told):
    [problem] = problems(data)
    assert problem.startswith(told)
    assert "\n" not in problem


def test_an_unknown_part_is_told_by_its_number(problems, files):
    parts = [{"source": "trl", "path": str(files / "pairs.jsonl")}, {"source": "hhh"}]
    [problem] = problems({"source": "mixture", "parts": parts})
    assert problem.startswith("data.parts.1: unknown data source 'hhh' (did you mean 'hh'?)")


def test_real_data_sets_mix(shared_data):
    parts = [
        {"source": "hh", "path": str(shared_data / "hh-rlhf"), "subset": "helpful-base", "weight": 2},
        {"source": "hh", "path": str(shared_data / "hh-rlhf"), "subset": "harmless-base", "weight": 2},
        {"source": "oasst", "path": str(shared_data / "oasst" / "en_trees.jsonl"), "weight": 1},
    ]
    opened = open_source(Data(source="mixture", parts=parts), 0)
    assert counts(opened, 100) == {"hh/helpful-base": 40, "hh/harmless-base": 40, "oasst": 20}
    drops = opened.feedback(num_pairs=100, split_seed=0).drops
    assert drops["hh/helpful-base: both answers are the same"] == 1
    assert drops["oasst: a reply without a rank"] == 31
