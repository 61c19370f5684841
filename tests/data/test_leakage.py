"""Leakage: what is asked in an evaluation and was trained on, in the same words or nearly so."""

import gzip
import json
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halobench.data.leakage import NUM_WORDS, as_completion, as_prompt, find_leaks, words_of
from halobench.data.sources.hh import HH
from halobench.feedback import Message

WORDS = [f"w{n}" for n in range(50)]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join)


def asked(*turns):
    """A prompt: what the user and the assistant say in turn."""
    roles = ("user", "assistant")
    return as_prompt(tuple(Message(roles[n % 2], text) for n, text in enumerate(turns)))


def found(train, held_out):
    """How many held-out prompts are the same as a train prompt, and how many share a run of words."""
    leaks = find_leaks(train, {"test": held_out})["test"]
    return leaks.num_exact, leaks.num_overlapping


def sentence(first, num_words):
    return " ".join(f"v{n}" for n in range(first, first + num_words))


def test_case_space_and_punctuation_do_not_count():
    assert words_of("  Hello,\tWORLD!  it's 5 o'clock. ") == ("hello", "world", "it", "s", "5", "o", "clock")
    assert found([asked("Who are YOU?")], [asked("who are you"), asked("who is you")]) == (1, 0)


def test_the_first_user_turn_tells_a_prompt():
    longer = asked("hi there", "hello", "what now")
    assert found([asked("Hi there!")], [longer]) == (1, 0)
    assert found([longer], [asked("what now")]) == (0, 0)
    system = as_prompt((Message("system", sentence(0, 20)), Message("user", "one")))
    other = as_prompt((Message("system", sentence(0, 20)), Message("user", "two")))
    assert found([system], [other]) == (0, 0)  # everybody's system turn gives nothing away


@pytest.mark.parametrize(("num_shared", "overlapping"), [(NUM_WORDS - 1, 0), (NUM_WORDS, 1), (30, 1)])
@pytest.mark.parametrize("before", range(8))
def test_thirteen_words_in_a_row_are_an_overlap(num_shared, overlapping, before):
    shared = sentence(0, num_shared)
    train = asked(f"{sentence(100, before)} {shared}, {sentence(200, 9)}")
    assert found([train], [asked(f"Other words: {shared} and more")]) == (0, overlapping)


def test_a_text_counts_once_and_is_shown_with_what_it_shares():
    text = sentence(0, 20)
    leaks = find_leaks(
        [asked(f"so {text}"), asked(f"thus {text}"), asked("Tell me.")],
        {"test": [asked(text), asked(text), asked("tell me")], "dev": [asked("tell them")]},
    )
    assert leaks["test"][:3] == (2, 1, 1)
    exact, overlap = leaks["test"].examples
    assert (exact.train, exact.held_out, exact.shared) == ("Tell me.", "tell me", "tell me")
    assert (overlap.train, overlap.held_out, overlap.shared) == (f"so {text}", text, sentence(0, 13))
    assert leaks["dev"] == (1, 0, 0, ())


def test_completions_are_the_same_only_where_they_say_something():
    long = sentence(0, NUM_WORDS)
    train = [as_completion(text) for text in ("Yes.", long, f"{sentence(20, 20)} more")]
    held_out = [as_completion(text) for text in ("yes", f"{long}!", sentence(20, 20))]
    assert found(train, held_out) == (1, 0)


@given(st.lists(TEXTS, min_size=1, max_size=20), st.data())
def test_a_planted_duplicate_is_always_found(texts, data):
    planted = data.draw(st.sampled_from(texts))
    disguised = (
        "  " + planted.upper().replace(" ", data.draw(st.sampled_from([" ", ", ", "\n", " -- "]))) + "?"
    )
    assert found(map(asked, texts), [asked(disguised)])[0] == 1


@given(st.lists(TEXTS, max_size=10), TEXTS, TEXTS, TEXTS, TEXTS)
def test_a_planted_run_is_always_found(texts, before, after, ahead, behind):
    run = sentence(0, NUM_WORDS)
    train = [*texts, f"{before} {run} {after}"]
    assert sum(found(map(asked, train), [asked(f"{ahead} {run} {behind}")])) == 1


@given(st.lists(TEXTS, max_size=15), st.lists(TEXTS, min_size=1, max_size=15))
def test_overlaps_are_those_of_a_plain_comparison(train, held_out):
    def runs(text):
        words = text.split()
        return {tuple(words[n : n + NUM_WORDS]) for n in range(len(words) - NUM_WORDS + 1)}

    distinct = set(held_out)
    exact = distinct & set(train)
    trained = set().union(*map(runs, train))
    overlapping = {text for text in distinct - exact if runs(text) & trained}
    assert found(map(asked, train), map(asked, held_out)) == (len(exact), len(overlapping))


def test_many_rows_take_little_time():
    train = [asked(f"number {n}: {sentence(n, 60)}") for n in range(10_000)]
    began = time.process_time()
    assert found(train, [asked(sentence(9_000, 20))]) == (0, 1)
    assert time.process_time() - began < 10  # about one


@pytest.mark.parametrize(("part", "num_turns"), [("helpful-base", 17), ("harmless-base", 15)])
def test_real_first_turns_of_train_and_test(shared_data, part, num_turns):
    # ../shared/data/README.md counts the same first human turn in train and test
    def prompts(split):
        with gzip.open(shared_data / "hh-rlhf" / part / f"{split}.jsonl.gz", "rt") as file:
            rows = list(HH.parse(map(json.loads, file), split, Counter(), []))
        return [as_prompt(row.winner.prompt) for row in rows]

    train, test = prompts("train"), prompts("test")
    exact, _ = found(train, test)
    assert exact == num_turns + 1  # one more of each part, which differs in its punctuation
