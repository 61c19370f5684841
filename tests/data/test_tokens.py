"""Tokens on disk: what the encoder gives, made once, put together a row at a time."""

import numpy as np
import pytest

from halobench.data import tokens
from halobench.data.rows import Row
from halobench.data.tokenize import Encoded, Fate
from halobench.data.tokens import TokenRows, tokenise
from halobench.feedback import Message, response
from halobench.storage import Artifacts


class Spelling:
    """Encodes a text as the places of its letters, and counts how often it is asked."""

    def __init__(self, identity="spelling"):
        self.identity = identity
        self.asked = 0

    def encode(self, texts):
        self.asked += len(texts)
        fates = [Fate.COMPLETION_CUT if len(text) > 3 else Fate(0) for _, text in texts]
        return [
            Encoded(letters(prompt[0].content), letters(text), fate)
            for (prompt, text), fate in zip(texts, fates, strict=True)
        ]


def letters(text):
    return tuple(ord(letter) for letter in text)


def said(*texts):
    """Responses to prompts, written prompt:completion."""
    rows = [
        response((Message("user", prompt),), completion, group_id=prompt, source="test")
        for prompt, completion in (text.split(":") for text in texts)
    ]
    return {row.response_id: row for row in rows}


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path)


def test_table_gives_back_what_the_encoder_gave(artifacts, monkeypatch):
    monkeypatch.setattr(tokens, "_BATCH", 2)  # the last batch is not full
    responses = said("a:bcd", "e:f", "gh:", "ij:klmn", "o:p")
    table = tokenise(responses, Spelling(), artifacts)
    found = [(table.prompt(row), table.completion(row)) for row in table.rows.values()]
    assert found == [
        (letters("a"), letters("bcd")),
        (letters("e"), letters("f")),
        (letters("gh"), ()),
        (letters("ij"), letters("klmn")),
        (letters("o"), letters("p")),
    ]
    assert list(table.rows) == list(responses)
    cut = [table.has_lost(key, Fate.COMPLETION_CUT) for key in responses]
    assert cut == [False, False, False, True, False]
    assert not any(table.has_lost(key, Fate.PROMPT_CUT) for key in responses)
    assert table.lost(responses) == {"completion_cut": 1}
    assert [table.length(key) for key in responses] == [3, 1, 0, 4, 1]


def test_texts_are_tokenised_once_and_again_for_another_encoder_or_other_texts(artifacts):
    responses, encoder = said("a:b", "c:d"), Spelling()
    tokenise(responses, encoder, artifacts)
    tokenise(dict(responses), encoder, artifacts)
    assert encoder.asked == 2
    other = Spelling("another tokenizer")
    tokenise(responses, other, artifacts)
    assert other.asked == 2
    tokenise(said("a:b", "c:e"), encoder, artifacts)
    assert encoder.asked == 4


def test_progress_is_told_batch_by_batch(artifacts, monkeypatch):
    monkeypatch.setattr(tokens, "_BATCH", 2)
    told = []
    tokenise(said("a:b", "c:d", "e:f"), Spelling(), artifacts, lambda *what: told.append(what))
    assert told == [(2, 3), (3, 3)]


def rows_of(artifacts, **options):
    table = tokenise(said("a:bc", "d:e", "f:ghi"), Spelling(), artifacts)
    numbers = np.array([2, 0, 1])
    labels = np.array([True, False, True])
    return TokenRows(table, numbers, numbers, labels, **{"controls": {}, **options})


def test_rows_are_put_together_in_their_own_order(artifacts):
    assert list(rows_of(artifacts)) == [
        Row(letters("f"), letters("ghi"), True),
        Row(letters("a"), letters("bc"), False),
        Row(letters("d"), letters("e"), True),
    ]
    assert rows_of(artifacts)[1:] == [rows_of(artifacts)[1], rows_of(artifacts)[2]]


@pytest.mark.parametrize(("scored", "expected"), [(False, ("fY", "ghi")), (True, ("f", "Yghi"))])
def test_control_token_of_its_label_stands_between_prompt_and_completion(scored, expected, artifacts):
    controls = {True: letters("Y"), False: letters("N")}
    good, bad, _ = rows_of(artifacts, controls=controls, scores_control=scored)
    assert (good.prompt, good.completion) == (letters(expected[0]), letters(expected[1]))
    assert bad.prompt + bad.completion == letters("aNbc")


def test_mismatched_rows_keep_the_prompt_and_the_label_and_take_the_completion_of_another(artifacts):
    found = list(rows_of(artifacts).mismatched([1, 2, 0]))
    assert found == [
        Row(letters("f"), letters("bc"), True),
        Row(letters("a"), letters("e"), False),
        Row(letters("d"), letters("ghi"), True),
    ]


def test_each_row_gets_its_part_of_the_reference_s_log_probabilities(artifacts):
    values = np.arange(8, dtype=np.float32)
    rows = rows_of(artifacts, reference=(values, np.array([3, 1, 0])))
    assert [row.reference.tolist() for row in rows] == [[3, 4, 5], [1, 2], [0]]


def test_what_was_lost_is_counted_by_row(artifacts):
    table = tokenise(said("a:bcde", "f:g"), Spelling(), artifacts)
    numbers = np.array([0, 1, 0])
    rows = TokenRows(table, numbers, numbers, np.array([True, True, False]), {})
    assert rows.lost == {"completion_cut": 2}
    assert rows.mismatched([1, 1, 1]).lost == {}
