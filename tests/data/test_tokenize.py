"""Texts to token ids: one begin marker, one end marker, and what is lost when a text is too long."""

import json
import string

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE
from tokenizers.normalizers import Prepend, Replace
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from halobench.data.tokenize import Encoder, Fate, join_turns
from halobench.errors import DataError
from halobench.feedback import Message

ASK = (Message("user", "why"),)
TALK = (Message("user", "why"), Message("assistant", "so"), Message("user", "how"))
MARKED = (
    "{{ bos_token }}{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)


CHATML = (
    "{% for m in messages %}<good>{{ m['content'] }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<good>{% endif %}"
)
BRACKETED = CHATML.replace("<end>", "]<end>")


def letters(begin="<s>", template=None, marks_begin=False, merges=()):
    """A tokenizer of characters, and perhaps some pairs: what it is shown can be read off the tokens."""
    known = [
        begin or "<s>",
        "</s>",
        "<good>",
        "<end>",
        *string.ascii_letters,
        *"\n :[]>.!",
        *map("".join, merges),
    ]
    tokenizer = Tokenizer(BPE({word: i for i, word in enumerate(known)}, list(merges), unk_token="!"))
    if marks_begin:
        tokenizer.normalizer = Prepend(".")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        eos_token="</s>",
        pad_token="</s>",
        additional_special_tokens=["<good>", "<end>"],
        chat_template=template,
    )


def encoder(tokenizer, max_length=200, max_prompt_length=100, **options):
    return Encoder(tokenizer, max_length=max_length, max_prompt_length=max_prompt_length, **options)


def shown(encoder, ids):
    return "".join(encoder.tokenizer.convert_ids_to_tokens(ids))


@pytest.mark.parametrize(
    ("begin", "template", "text"),
    [
        ("<s>", MARKED, "<s>[why][so][how]>"),  # the template writes the marker
        ("<s>", MARKED.removeprefix("{{ bos_token }}"), "<s>[why][so][how]>"),  # the template does not
        (None, MARKED.removeprefix("{{ bos_token }}"), "[why][so][how]>"),  # there is no such marker
        ("<s>", None, "<s>\n\nHuman: why\n\nAssistant: so\n\nHuman: how\n\nAssistant:"),
        (None, None, "\n\nHuman: why\n\nAssistant: so\n\nHuman: how\n\nAssistant:"),
    ],
)
def test_prompt_begins_once_and_ends_where_the_completion_begins(begin, template, text):
    encode = encoder(letters(begin, template))
    assert shown(encode, encode.prompt(TALK)) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            MARKED,
            "so.</s>",
        ),  # the template ends an answer with no marker, so the tokenizer's own stands there
        (None, " so.</s>"),
        (CHATML, "so.<end>"),  # its own marker, and not what it puts behind that
        (BRACKETED, "so.]<end>"),  # what it puts before the marker is part of the answer
    ],
)
def test_completion_ends_once(template, text):
    encode = encoder(letters(template=template))
    [row] = encode.encode([(ASK, "so.")])
    assert shown(encode, row.completion) == text
    assert row.completion[-1] == encode.end
    assert row.prompt == encode.prompt(ASK)
    assert row.fate == Fate(0)


@pytest.mark.parametrize(("template", "mark"), [(None, "</s>"), (CHATML, "<end>")])
@pytest.mark.parametrize("times", [1, 2])
def test_completion_that_brings_its_end_marker_ends_once(template, mark, times):
    encode = encoder(letters(template=template))
    [row] = encode.encode([(ASK, "so." + f" {mark}" * times)])
    assert shown(encode, row.completion).strip() == f"so.{mark}"


def test_many_texts_are_encoded_as_they_are_one_by_one():
    encode = encoder(letters(template=CHATML), max_length=24, max_prompt_length=16)
    texts = [(ASK, "so"), (TALK, "no"), (ASK, "so so so so so"), (TALK, "so"), (ASK, "so")]
    assert encode.encode(texts) == [row for text in texts for row in encode.encode([text])]


def test_prompt_and_completion_are_tokenised_together_where_both_begin_like_the_prompt():
    """A tokenizer that puts a space in front of every text would put one in front of an answer alone."""
    tokenizer = letters(template="{% for m in messages %}{{ m['content'] }}{% endfor %}", marks_begin=True)
    encode = encoder(tokenizer)
    [row] = encode.encode([(ASK, "so")])
    assert shown(encode, row.prompt) == "<s>.why"
    assert shown(encode, row.completion) == "so</s>"
    assert row.fate == Fate(0)


def test_completion_is_tokenised_apart_where_it_would_merge_with_the_prompt():
    merging = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    encode = encoder(letters(template=merging, merges=[("y", "s")]))
    [merged, other] = encode.encode([(ASK, "so"), (ASK, "no")])
    assert shown(encode, merged.prompt) == "<s>why"
    assert shown(encode, merged.completion) == "so</s>"
    assert (merged.fate, other.fate) == (Fate.APART, Fate(0))


def test_template_that_asks_in_other_words_than_it_shows_an_answer():
    thinking = (
        "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
        "{% if add_generation_prompt %}>think{% endif %}"
    )
    encode = encoder(letters(template=thinking))
    [row] = encode.encode([(ASK, "so")])
    assert shown(encode, row.prompt) == "<s>[why]>think"
    assert shown(encode, row.completion) == "so</s>"


def test_control_token_ends_the_prompt():
    encode = encoder(letters(template=MARKED))
    assert shown(encode, encode.prompt(ASK, "<good>")) == "<s>[why]><good>"
    assert encode.control("<good>") == encode.tokenizer.get_vocab()["<good>"]
    assert shown(encode, encode.prompt(ASK)) == "<s>[why]>"  # asked again, without


@pytest.mark.parametrize(
    ("longest", "kept", "fate"),
    [
        (22, "<s>[be][why][so][how]>", Fate(0)),
        (20, "<s>[be][why][so][how]>", Fate(0)),
        (19, "<s>[be][how]>", Fate.TURNS_DROPPED),  # the question goes with its answer
        (11, "<s>[be][how]>", Fate.TURNS_DROPPED),
        (10, "<s>[how]>", Fate.TURNS_DROPPED),
        (7, "<s>[how]>", Fate.TURNS_DROPPED),
        (6, "<s>how]>", Fate.TURNS_DROPPED | Fate.PROMPT_CUT),
        (3, "<s>]>", Fate.TURNS_DROPPED | Fate.PROMPT_CUT),
    ],
)
def test_long_prompt_loses_its_oldest_turns_then_the_system_turn_then_its_beginning(longest, kept, fate):
    encode = encoder(letters(template=MARKED), max_prompt_length=longest)
    prompt = (Message("system", "be"), *TALK)
    assert shown(encode, encode.prompt(prompt)) == kept
    [row] = encode.encode([(prompt, "so")])
    assert shown(encode, row.prompt) == kept
    assert shown(encode, row.completion) == "so</s>"
    assert row.fate == fate


def test_long_prompt_without_a_begin_marker_loses_its_beginning():
    encode = encoder(letters(None, MARKED.removeprefix("{{ bos_token }}")), max_prompt_length=4)
    assert shown(encode, encode.prompt(TALK)) == "ow]>"


def test_prompt_that_just_fits_is_whole():
    encode = encoder(letters(template=MARKED), max_prompt_length=7)  # <s> [ w h y ] >
    assert shown(encode, encode.prompt(ASK)) == "<s>[why]>"


@pytest.mark.parametrize(
    ("text", "kept", "fate"),
    [
        ("soso", "soso</s>", Fate(0)),
        ("sososo", "sosos", Fate.COMPLETION_CUT),
        ("sosos", "sosos", Fate.COMPLETION_CUT),
    ],
)
def test_long_completion_loses_its_end_and_the_end_marker(text, kept, fate):
    bare = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    encode = encoder(letters(template=bare), max_length=9)  # <s> w h y, and five of the completion
    [row] = encode.encode([(ASK, text)])
    assert shown(encode, row.completion) == kept
    assert row.fate == fate


REFUSING = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('must alternate') }}{% endif %}"
    "[{{ m['content'] }}]{% endfor %}"
)


@pytest.mark.parametrize(
    ("roles", "reason"), [(["system", "user"], "no system"), (["user", "user"], "must alternate")]
)
def test_template_that_refuses_turns_says_which_and_what_to_do(roles, reason):
    prompt = tuple(Message(role, "so") for role in roles)
    message = rf"the chat template refuses the turns {', '.join(roles)} \({reason}\); set data.turns: joined"
    with pytest.raises(DataError, match=message):
        encoder(letters(template=REFUSING)).prompt(prompt)
    with pytest.raises(DataError, match=message):
        encoder(letters(template=REFUSING)).encode([(ASK, "so"), (prompt, "so")])


def test_joined_turns_satisfy_a_template_that_refuses_them():
    encode = encoder(letters(template=REFUSING), joins_turns=True)
    turns = [("system", "be"), ("user", "why"), ("user", "how"), ("assistant", "so"), ("user", "ah")]
    prompt = tuple(Message(*turn) for turn in turns)
    assert shown(encode, encode.prompt(prompt)) == "<s>[be\n\nwhy\n\nhow][so][ah]"
    with pytest.raises(DataError, match=r"refuses the turns assistant, user .*leave such rows out"):
        encode.prompt((Message("assistant", "so"), Message("user", "why")))


def test_joined_turns_stay_where_there_is_nothing_to_join():
    assert join_turns(TALK) == TALK
    assert join_turns((Message("system", "be"),)) == (Message("user", "be"),)


@pytest.mark.parametrize(
    ("text", "holds"),
    [("so", False), ("s</s>o", True), ("so </s>", False), ("so</s></s> ", False), ("<good> so", True)],
)
def test_special_token_in_a_text_is_noticed_but_for_an_end_marker_at_its_end(text, holds):
    assert encoder(letters()).holds_special_token(text) is holds


def test_tokenizer_without_an_end_marker_is_refused():
    tokenizer = letters()
    tokenizer.eos_token = None
    with pytest.raises(DataError, match=r"names no token that ends a completion; set model\.tokenizer\.eos"):
        encoder(tokenizer)


def test_tokenizer_that_makes_no_tokens_of_a_text_is_refused():
    """As transformers gives one where a folder's model type and its tokenizer are of different families."""
    tokenizer = letters()
    tokenizer.backend_tokenizer.normalizer = Replace(Regex("[a-z]"), "")
    with pytest.raises(DataError, match=r"makes no tokens of a text; give model\.tokenizer the"):
        encoder(tokenizer)


def test_identity_follows_all_that_the_tokens_depend_on():
    plain = encoder(letters())
    assert encoder(letters()).identity == plain.identity
    others = [
        encoder(letters(template=MARKED)),
        encoder(letters(begin=None)),
        encoder(letters(merges=[("s", "o")])),
        encoder(letters(), max_length=201),
        encoder(letters(), max_prompt_length=101),
        encoder(letters(), joins_turns=True),
    ]
    assert len({each.identity for each in [plain, *others]}) == 7


def test_document_begins_and_ends_with_its_markers_whatever_its_length():
    encode = encoder(letters(), max_length=8)
    texts = {"so": "so", "sososo": "sososo", "sosososo": "sososo"}
    for kept, (begin, rest) in zip(texts.values(), encode.documents(list(texts)), strict=True):
        assert shown(encode, begin) == "<s>"
        assert shown(encode, rest) == f"{kept}</s>"


def test_real_tokenizers_without_a_chat_template_write_transcripts(shared_data):
    folder = shared_data / "tokenizers"
    gpt2 = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "gpt2" / "tokenizer.json"), eos_token="<|endoftext|>"
    )
    tiny = AutoTokenizer.from_pretrained(folder / "torchtune-tiny")
    for tokenizer, begin, end in (
        (gpt2, "", "<|endoftext|>"),
        (tiny, "<|begin_of_sentence|>", "<|end_of_sentence|>"),
    ):
        assert tokenizer.chat_template is None
        encode = encoder(tokenizer)
        [row] = encode.encode([(TALK, "because")])
        transcript = "\n\nHuman: why\n\nAssistant: so\n\nHuman: how\n\nAssistant: because"
        assert tokenizer.decode([*row.prompt, *row.completion]) == begin + transcript + end


def test_real_chat_template_writes_one_begin_marker(shared_data):
    templates = json.loads((shared_data / "tokenizers" / "chat_templates.json").read_text())
    tiny = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / "torchtune-tiny")
    tiny.chat_template = templates["mistral-instruct"]  # writes bos_token itself
    ids = encoder(tiny).prompt(ASK)
    assert tiny.decode(ids) == "<|begin_of_sentence|>[INST] why [/INST]"
    assert ids.count(tiny.bos_token_id) == 1


@pytest.mark.parametrize("template", [None, "mistral-base"])
def test_real_texts_come_back_from_their_tokens_with_one_end_marker(template, shared_data):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(shared_data / "tokenizers" / "gpt2" / "tokenizer.json"), eos_token="<|endoftext|>"
    )
    if template is not None:
        tokenizer.chat_template = json.loads(
            (shared_data / "tokenizers" / "chat_templates.json").read_text()
        )[template]
    encode = encoder(tokenizer, max_length=4096, max_prompt_length=2048)
    lines = (shared_data / "ultrafeedback" / "test.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["chosen"].strip()]
    found = encode.encode([((Message("user", row["prompt"]),), row["chosen"]) for row in rows])
    assert len(found) > 70
    for row, tokens in zip(rows, found, strict=True):
        assert tokens.fate == Fate(0)
        assert tokens.completion[-1] == encode.end
        assert encode.end not in tokens.completion[:-1]
        text = tokenizer.decode([*tokens.prompt, *tokens.completion[:-1]])
        if template is None:
            assert text == f"\n\nHuman: {row['prompt']}\n\nAssistant: {row['chosen']}"
        else:
            assert text.endswith(f"<|user|>\n{row['prompt']}<|endoftext|>\n<|assistant|>\n{row['chosen']}")


@pytest.mark.parametrize(("template", "lead"), [(MARKED, ""), (None, " "), (CHATML, ""), (BRACKETED, "")])
@pytest.mark.parametrize("ended", [True, False])
def test_a_sampled_completion_is_encoded_to_what_was_sampled(template, lead, ended):
    tokenizer = letters(template=template)
    tokenizer.backend_tokenizer.decoder = Fuse()
    room = len(encoder(tokenizer).prompt(ASK)) + len(f"{lead}so") + (template == BRACKETED)
    encode = encoder(tokenizer, max_length=room + ended)  # one that did not end has filled its room
    written = f"{lead}so" + ("]" if template == BRACKETED else "")
    sampled = [*map(int, tokenizer.convert_tokens_to_ids(list(written))), *([encode.end] if ended else [])]
    assert encode.text(sampled) == "so"
    [row] = encode.encode([(ASK, encode.text(sampled))])
    assert list(row.completion) == sampled
