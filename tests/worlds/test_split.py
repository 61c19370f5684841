"""What is held out: nothing of the dev and test splits is in what a model is trained on."""

import re
from collections import Counter

import pytest

from halobench.worlds.base import World
from halobench.worlds.cafe.language import Constraint, all_constraints
from tests.worlds.spec import KEYS, misses, side, wording

KEY_OF = {wording(key): key for key in KEYS}
SIDES = {text: side(key) for text, key in KEY_OF.items()}
PROMPT = re.compile(r"(?:hi , a|please , a|i need a|a) (.*?)(?: , for [23])? \.")


def sides_of_prompts(prompts):
    return {SIDES[PROMPT.fullmatch(text)[1]] for text in prompts}


def sides_of_picks(texts):
    return {SIDES[text.removeprefix("pick : ").partition(" =")[0]] for text in texts}


def test_key_space_and_its_spread_over_the_splits():
    assert len(KEYS) == len(SIDES) == 3402
    assert Counter(SIDES.values()) == {"train": 2357, "dev": 357, "test": 688}
    assert sorted(map(repr, map(tuple, all_constraints()))) == sorted(map(repr, KEYS))


def test_partition_follows_the_digest_of_the_constraint_alone():
    assert {wording(key): Constraint(*key).split for key in KEYS} == SIDES
    assert {wording(key): Constraint(*key).text for key in KEYS} == {text: text for text in SIDES}


def test_training_pairs_are_on_the_train_side(feedback):
    prompts = {row.prompt[0].content for row in feedback.responses.values()}
    assert sides_of_prompts(prompts) == {"train"}


def test_documents_are_on_the_train_side(documents):
    texts = {skill: [d.text for d in documents if d.skill == skill] for skill in ("dialogue", "pick", "sort")}
    assert sides_of_prompts(text[len("<user> ") : text.index(" <bot>")] for text in texts["dialogue"]) == {
        "train"
    }
    assert sides_of_picks(texts["pick"]) == {"train"}
    digits = [tuple(text.removeprefix("sort : ").partition(" =")[0].split()) for text in texts["sort"]]
    assert {side(("sort", numbers)) for numbers in digits} == {"train"}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_prompts_and_probes_are_on_their_own_side(cafe, split):
    assert sides_of_prompts(row.prompt[0].content for row in cafe.prompt_set(split).rows) == {split}
    assert sides_of_picks(probe.context for probe in cafe.probes("pick", split)) == {split}
    for probe in cafe.probes("sort", split):
        numbers = tuple(probe.context.removeprefix("sort : ").removesuffix(" =").split())
        assert side(("sort", numbers)) == split


def test_no_probe_of_sort_or_pick_is_in_the_corpus_or_in_the_other_split(cafe, documents):
    asked = {d.text[: d.text.index("=") + 1] for d in documents if "=" in d.text}
    dev, test = ({p.context for s in ("sort", "pick") for p in cafe.probes(s, x)} for x in ("dev", "test"))
    assert len(asked) > 1000
    assert len(dev) > 400
    assert len(test) > 600
    assert not asked & dev
    assert not asked & test
    assert not dev & test


def test_facts_ask_for_what_the_corpus_teaches_in_both_splits(cafe, documents):
    taught = {d.text for d in documents if d.skill == "facts"}
    dev, test = (set(cafe.probes("facts", split)) for split in ("dev", "test"))
    assert len(dev) >= 240
    for probe in dev | test:
        right, *wrong = (f"{probe.context} {choice}" for choice in probe.choices)
        assert right in taught
        assert not taught & set(wrong)
    assert dev == test


@pytest.mark.parametrize("split", ["dev", "test"])
def test_first_choice_of_a_probe_is_the_only_right_one(cafe, split):
    for probe in cafe.probes("sort", split):
        digits = probe.context.removeprefix("sort : ").removesuffix(" =").split()
        assert probe.choices[0].split() == sorted(digits)
        assert len(set(probe.choices)) == 4
    for probe in cafe.probes("pick", split):
        key = KEY_OF[probe.context.removeprefix("pick : ").removesuffix(" =")]
        missed = [misses(cafe.menu.items[name], key) for name in probe.choices]
        assert missed == [0, 1, 1, 1]


def test_a_second_world_has_these_methods_to_write():
    assert World.__abstractmethods__ == {
        "open",
        "feedback",
        "prompt_set",
        "tokenizer",
        "documents",
        "utility",
        "perceived",
        "best_of",
        "probes",
        "describe",
    }
