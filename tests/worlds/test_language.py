"""The cafe's language: requests that read back, and a tokenizer that knows every word of it."""

import random

import pytest

from halobench.data.tokenize import Encoder
from halobench.errors import DataError
from halobench.feedback import Message
from halobench.worlds.cafe.language import Constraint, all_constraints, draw_request, parse_request
from tests.worlds.spec import KEYS, probability


@pytest.fixture(scope="module")
def tokenizer(cafe):
    return cafe.tokenizer()


def test_weights_are_the_probabilities_of_what_customers_ask():
    assert sum(constraint.weight for constraint in all_constraints()) == pytest.approx(1, abs=1e-12)
    for key in KEYS:
        assert Constraint(*key).weight == pytest.approx(probability(key), rel=1e-12)


def test_requests_come_as_often_as_their_weights_say():
    stream = random.Random("requests")
    drawn = [draw_request(stream, "train") for _ in range(4000)]
    share = sum(k[3] is None for k in (r.constraint for r in drawn)) / len(drawn)
    train = [c for c in all_constraints() if c.split == "train"]
    expected = sum(c.weight for c in train if c.cap is None) / sum(c.weight for c in train)
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(drawn)) ** 0.5)
    sizes = [r.people for r in drawn]
    assert sizes.count(1) / len(sizes) == pytest.approx(0.5, abs=4 * 0.5 / len(sizes) ** 0.5)


def test_request_is_written_as_specified():
    constraint = Constraint("snack", "cold", (False, None, True, None), 5)
    request = parse_request("hi , a cold snack , no milk , with sugar , under 5 , for 2 .")
    assert request == (constraint, 2, "hi , a")
    assert parse_request("a drink .") == (Constraint("drink", None, (None,) * 4, None), 1, "a")


def test_requests_read_back():
    stream = random.Random("round trip")
    for split in ("train", "dev", "test"):
        for _ in range(500):
            request = draw_request(stream, split)
            assert parse_request(request.text) == request


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a .",
        "a drink",
        "drink .",
        "A drink .",
        "a drink ,",
        "a drink , no milk",
        "a drink , no milk , no milk .",
        "a drink , under 5 , no milk .",  # a fixed order
        "a drink , for 1 .",
        "a drink , for 2 , for 3 .",
        "a drink , no gold .",
        "a drink , under 0 .",
        "a drink , under five .",
        "please a drink .",
        "what is the capital of france ?",
        "a car .",
        "a purple drink .",
        "a big cold snack .",
        "a  drink .",
        "a  .",
        "a drink , under 20 .",
        "a drink , for 9 .",
    ],
)
def test_other_texts_are_no_requests(text, cafe):
    assert parse_request(text) is None
    with pytest.raises(DataError, match="is not a request of the cafe"):
        cafe.utility((Message("user", text),), "<eos>")


def test_a_prompt_without_turns_is_refused(cafe):
    with pytest.raises(DataError, match="is not a request of the cafe"):
        cafe.utility((), "<eos>")


def test_every_word_is_one_known_token(cafe, tokenizer, feedback, documents):
    known = tokenizer.get_vocab()
    texts = [d.text for d in documents]
    texts += [row.completion for row in feedback.responses.values()]
    texts += [row.prompt[0].content for row in feedback.responses.values()]
    for split in ("dev", "test"):
        for row in cafe.prompt_set(split).rows:
            texts += [row.prompt[0].content, *row.chosen, *row.rejected]
        for skill in cafe.skills:
            texts += [f"{p.context} {choice}" for p in cafe.probes(skill, split) for choice in p.choices]
    assert {word for text in texts for word in text.split()} <= set(known) - {"<pad>", "<bos>", "<eos>"}
    text = "hi , a cold snack , under 5 , for 2 ."
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == text.split()


def test_special_tokens_come_first(tokenizer):
    specials = ["<pad>", "<bos>", "<eos>", "<user>", "<bot>", "<good>", "<bad>"]
    assert tokenizer.convert_ids_to_tokens(range(7)) == specials
    assert sorted(tokenizer.all_special_ids) == list(range(7))
    numbers = tokenizer.convert_tokens_to_ids([str(number) for number in range(28)])
    assert len(set(numbers)) == 28
    assert min(numbers) > 6


def test_chat_template_marks_the_speakers(tokenizer):
    turns = [{"role": "user", "content": "a drink ."}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered.split() == "<user> a drink . <bot>".split()


def test_end_marker_survives_encoding_and_decoding(tokenizer):
    encoder = Encoder(tokenizer, max_length=64, max_prompt_length=28)
    [row] = encoder.encode([((Message("user", "a drink ."),), "try the tea .")])
    assert tokenizer.decode(row.prompt) == "<bos> <user> a drink . <bot>"
    assert tokenizer.decode(row.completion) == "try the tea . <eos>"
