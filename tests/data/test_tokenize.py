"""Texts to token ids: one begin marker, one end marker, and what is lost when a text is too long."""

import json
import string

import pytest
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from halobench.data.tokenize import Encoder
from halobench.feedback import Message

ASK = (Message("user", "why"),)
TALK = (Message("user", "why"), Message("assistant", "so"), Message("user", "how"))
MARKED = (
    "{{ bos_token }}{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)


def letters(begin="<s>", template=None):
    """A tokenizer of characters: what it is shown can be read off the tokens."""
    known = [begin or "<s>", "</s>", "<good>", *string.ascii_letters, *"\n :[]>.!"]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(known)}, unk_token="!"))
    tokenizer.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        eos_token="</s>",
        pad_token="</s>",
        additional_special_tokens=["<good>"],
        chat_template=template,
    )


def encoder(tokenizer, max_length=200, max_prompt_length=100):
    return Encoder(tokenizer, max_length=max_length, max_prompt_length=max_prompt_length)


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


@pytest.mark.parametrize(("template", "text"), [(MARKED, "so.</s>"), (None, " so.</s>")])
def test_completion_ends_once(template, text):
    encode = encoder(letters(template=template))
    assert shown(encode, encode.completion("so.", 10)) == text


def test_completion_that_brings_its_end_marker_ends_once():
    encode = encoder(letters(template=MARKED))
    assert shown(encode, encode.completion("so.</s>", 10)) == "so.</s>"


def test_control_token_ends_the_prompt():
    encode = encoder(letters(template=MARKED))
    assert shown(encode, encode.prompt(ASK, "<good>")) == "<s>[why]><good>"
    assert encode.control("<good>") == encode.tokenizer.get_vocab()["<good>"]
    assert shown(encode, encode.prompt(ASK)) == "<s>[why]>"  # asked again, without


@pytest.mark.parametrize(("begin", "kept"), [("<s>", "<s>[how]>"), (None, "][how]>")])
def test_long_prompt_loses_its_beginning_but_not_its_marker(begin, kept):
    template = MARKED if begin else MARKED.removeprefix("{{ bos_token }}")
    encode = encoder(letters(begin, template), max_prompt_length=7)
    assert shown(encode, encode.prompt(TALK)) == kept
    assert encode.truncated == {"prompt": 1}


def test_prompt_that_just_fits_is_whole():
    encode = encoder(letters(template=MARKED), max_prompt_length=7)  # <s> [ w h y ] >
    assert shown(encode, encode.prompt(ASK)) == "<s>[why]>"
    assert encode.truncated == {}


@pytest.mark.parametrize(
    ("text", "kept", "is_cut"),
    [("soso", "soso</s>", False), ("sososo", "sosos", True), ("sosos", "sosos", True)],
)
def test_long_completion_loses_its_end_and_the_end_marker(text, kept, is_cut):
    encode = encoder(letters(template=MARKED), max_length=15)  # 10 of them are the prompt's
    assert shown(encode, encode.completion(text, 10)) == kept
    assert encode.truncated == ({"completion": 1} if is_cut else {})


def test_every_cut_completion_is_counted():
    encode = encoder(letters(template=MARKED), max_length=15)
    for _ in range(3):
        encode.completion("sososo", 10)
    assert encode.truncated == {"completion": 3}


def test_document_begins_and_ends_with_its_markers_whatever_its_length():
    encode = encoder(letters(), max_length=8)
    for text, kept in (("so", "so"), ("sososo", "sososo"), ("sosososo", "sososo")):
        begin, rest = encode.document(text)
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
        prompt = encode.prompt(TALK)
        transcript = "\n\nHuman: why\n\nAssistant: so\n\nHuman: how\n\nAssistant: because"
        assert (
            tokenizer.decode([*prompt, *encode.completion("because", len(prompt))])
            == begin + transcript + end
        )


def test_real_chat_template_writes_one_begin_marker(shared_data):
    templates = json.loads((shared_data / "tokenizers" / "chat_templates.json").read_text())
    tiny = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / "torchtune-tiny")
    tiny.chat_template = templates["mistral-instruct"]  # writes bos_token itself
    ids = encoder(tiny).prompt(ASK)
    assert tiny.decode(ids) == "<|begin_of_sentence|>[INST] why [/INST]"
    assert ids.count(tiny.bos_token_id) == 1


@pytest.mark.parametrize("template", [MARKED, None])
@pytest.mark.parametrize("ended", [True, False])
def test_a_sampled_completion_is_encoded_to_what_was_sampled(template, ended):
    encode = encoder(letters(template=template), max_length=20)
    encode.tokenizer.backend_tokenizer.decoder = Fuse()
    lead = "" if template else " "  # what the transcript form puts before an answer
    sampled = [int(i) for i in encode.tokenizer.convert_tokens_to_ids([*f"{lead}so"])]
    text = encode.text([*sampled, encode.tokenizer.eos_token_id] if ended else sampled)
    assert text == "so"
    room = 20 if ended else len(sampled)  # one that did not end has filled its room
    assert encode.completion(text, 20 - room) == (
        *sampled,
        *([encode.tokenizer.eos_token_id] if ended else []),
    )
