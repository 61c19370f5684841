"""Texts to token ids: one template, one begin marker, one end marker, the same for every loss."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import IntFlag
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from jinja2 import TemplateError

from halobench.errors import DataError
from halobench.feedback import Message, Prompt
from halobench.storage import digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# For tokenizers without a chat template: the transcript form of HH-RLHF.
TRANSCRIPT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '\n\nAssistant: ' if message['role'] == 'assistant' else '\n\nHuman: ' }}{{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
_PROBE = "halobench"

Tokens = tuple[int, ...]


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> dict[str, Tokens]:
    """Return the token ids of distinct texts, adding no special tokens; one call is much faster than many."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    ids = tokenizer(distinct, add_special_tokens=False)["input_ids"]
    return dict(zip(distinct, map(tuple, ids), strict=True))


class Fate(IntFlag):
    """What happened to a text on its way to tokens."""

    TURNS_DROPPED = 1  # the prompt lost its oldest turns
    PROMPT_CUT = 2  # the last turn alone was too long, and lost its beginning
    COMPLETION_CUT = 4  # the completion lost its end, and the end marker with it
    APART = 8  # prompt and completion, tokenised together, do not begin like the prompt


TOO_LONG = Fate.PROMPT_CUT | Fate.COMPLETION_CUT


class Encoded(NamedTuple):
    """A prompt and a completion as tokens.

    Attributes:
        prompt: token ids up to where the completion begins.
        completion: token ids that are scored, the end marker included.
        fate: what they lost.
    """

    prompt: Tokens
    completion: Tokens
    fate: Fate


class _Templated(NamedTuple):
    """A prompt in the words of the template.

    Attributes:
        turns: that are left of it.
        text: up to where the completion begins.
        tokens: of the text, the begin marker included.
        kept: of the tokens.
        fate: what it lost.
    """

    turns: Prompt
    text: str
    tokens: Tokens
    kept: Tokens
    fate: Fate


def join_turns(prompt: Prompt) -> Prompt:
    """Put a system turn in front of what the user says next, and make one turn of several of one role."""
    joined: list[Message] = []
    for turn in prompt:
        role = "user" if turn.role == "system" else turn.role
        if joined and joined[-1].role == role:
            joined[-1] = Message(role, f"{joined[-1].content}\n\n{turn.content}")
        else:
            joined.append(Message(role, turn.content))
    return tuple(joined)


class Encoder:
    """Encodes prompts and completions so that training, scoring and generation agree on every token.

    The completion of a prompt is what the template's text of both has more than that of the prompt, tokenised
    together wherever the tokens of both begin with those of the prompt, and apart where they do not. Its end
    marker is the special token that the template puts behind an answer, else the tokenizer's own.

    Args:
        tokenizer: has an end-of-sequence token; without a chat template the transcript form is used.
        max_length: of prompt and completion together.
        max_prompt_length: of the prompt.
        joins_turns: see `join_turns`; for templates that refuse system turns, or two turns of one role.

    Raises:
        DataError: the tokenizer names no token that ends a completion, or makes no tokens of a text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        max_prompt_length: int,
        joins_turns: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self._joins_turns = joins_turns
        self._template = tokenizer.chat_template or TRANSCRIPT_TEMPLATE
        special = {str(token): i for token, i in _special_tokens(tokenizer).items()}
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")
        self._before, self._after = self._probe()
        found = self._special.search(self._after)
        # what stands before the marker belongs to the answer, and what stands behind it to the next turn
        self._tail, marker = (self._after[: found.start()], found.group()) if found else ("", "")
        end = special.get(marker, tokenizer.eos_token_id)
        if end is None:
            raise DataError(
                "the tokenizer names no token that ends a completion; set model.tokenizer.eos (with "
                "model.tokenizer.path)"
            )
        if not tokenize(tokenizer, [_PROBE])[_PROBE]:
            raise DataError(
                f"the tokenizer, read as a {type(tokenizer).__name__}, makes no tokens of a text; give "
                "model.tokenizer the tokenizer.json that belongs to the model"
            )
        self.end = int(end)
        self._end_text = str(tokenizer.convert_ids_to_tokens(self.end))
        self._templated = lru_cache(maxsize=1024)(self._make_templated)

    @cached_property
    def identity(self) -> str:
        """Digest of everything that the tokens of a text depend on."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        words = self.tokenizer.get_vocab() if backend is None else backend.to_str()
        lengths = [self.max_length, self.max_prompt_length]
        markers = [self.tokenizer.bos_token, self._end_text, self._template]
        return digest([words, markers, lengths, self._joins_turns])

    def encode(self, texts: Sequence[tuple[Prompt, str]]) -> list[Encoded]:
        """Encode completions of prompts, many at once, which is much faster than one by one.

        Raises:
            DataError: the template refuses a prompt.
        """
        prompts = self._encode_prompts(dict.fromkeys(prompt for prompt, _ in texts))
        rows = [(prompts[prompt], self._body(prompts[prompt], text)) for prompt, text in texts]
        together = tokenize(self.tokenizer, (shown.text + body for shown, body in rows))
        encoded: list[Encoded | None] = []
        for shown, body in rows:
            ids = self._begun(together[shown.text + body])
            num_prompt = len(shown.tokens)
            begins_alike = ids[:num_prompt] == shown.tokens
            encoded.append(self._ended(shown.kept, ids[num_prompt:], shown.fate) if begins_alike else None)
        left = [body for (_, body), row in zip(rows, encoded, strict=True) if row is None]
        apart = tokenize(self.tokenizer, left)
        return [
            row or self._ended(shown.kept, apart[body], shown.fate | Fate.APART)
            for row, (shown, body) in zip(encoded, rows, strict=True)
        ]

    def prompt(self, prompt: Prompt, control: str | None = None) -> Tokens:
        """Encode a prompt up to where the completion begins.

        Args:
            prompt: the turns.
            control: control token that ends the prompt, or None.

        Raises:
            DataError: the template refuses it.
        """
        ids = self._templated(prompt).kept
        return ids if control is None else (*ids, self.control(control))

    def control(self, token: str) -> int:
        """Id of a control token."""
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def documents(self, texts: Sequence[str]) -> list[tuple[Tokens, Tokens]]:
        """Encode pre-training texts, each as a begin marker and everything after it."""
        begin = (int(self.tokenizer.bos_token_id),)
        known = tokenize(self.tokenizer, texts)
        return [(begin, (*known[text][: self.max_length - 2], self.end)) for text in texts]

    def holds_special_token(self, text: str) -> bool:
        """Whether a text would become a special token in its middle; an end marker at its end may stay."""
        return self._special.search(self._without_end(text)) is not None

    def text(self, tokens: Sequence[int]) -> str:
        """Decode a sampled completion, without its end marker, to what is encoded to the same tokens."""
        kept = tokens[:-1] if tokens and tokens[-1] == self.end else tokens
        written = str(self.tokenizer.decode(kept, clean_up_tokenization_spaces=False))
        return written.removeprefix(self._before).removesuffix(self._tail)

    def _probe(self) -> tuple[str, str]:
        """What the template puts before an answer, once it has asked for one, and behind it."""
        question, answer = Message("user", _PROBE), Message("assistant", _PROBE)
        asked, whole = self._render((question,), asks=True), self._render((question, answer), asks=False)
        before, _, after = whole.removeprefix(asked).rpartition(_PROBE)
        return before if whole.startswith(asked) else "", after

    def _render(self, turns: Prompt, *, asks: bool) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [turn._asdict() for turn in turns],
                    chat_template=self._template,
                    tokenize=False,
                    add_generation_prompt=asks,
                )
            )
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            remedy = (
                "give a tokenizer with another template, or leave such rows out"
                if self._joins_turns
                else "set data.turns: joined, or give a tokenizer with another template"
            )
            raise DataError(f"the chat template refuses the turns {roles} ({error}); {remedy}") from None

    def _encode_prompts(self, prompts: Iterable[Prompt]) -> Mapping[Prompt, _Templated]:
        turns = {prompt: join_turns(prompt) if self._joins_turns else prompt for prompt in prompts}
        texts = {prompt: self._render(shown, asks=True) for prompt, shown in turns.items()}
        known = tokenize(self.tokenizer, texts.values())
        return {prompt: self._fit(turns[prompt], text, known[text]) for prompt, text in texts.items()}

    def _make_templated(self, prompt: Prompt) -> _Templated:
        return self._encode_prompts([prompt])[prompt]

    def _fit(self, turns: Prompt, text: str, ids: Tokens) -> _Templated:
        """Drop the oldest turns until the prompt fits; of the last one, if need be, the beginning."""
        tokens, fate = self._begun(ids), Fate(0)
        while len(tokens) > self.max_prompt_length:
            fewer = _without_oldest(turns)
            if fewer is None:
                begin = self._begin()
                kept = (*begin, *tokens[len(tokens) - self.max_prompt_length + len(begin) :])
                return _Templated(turns, text, tokens, kept, fate | Fate.PROMPT_CUT)
            turns, fate = fewer, Fate.TURNS_DROPPED
            text = self._render(turns, asks=True)
            tokens = self._begun(tokenize(self.tokenizer, [text])[text])
        return _Templated(turns, text, tokens, tokens, fate)

    def _body(self, prompt: _Templated, completion: str) -> str:
        """The text of a completion as the template writes it, its end marker aside."""
        text = self._without_end(completion)
        both = self._render((*prompt.turns, Message("assistant", text)), asks=False)
        if not both.startswith(prompt.text):
            return text  # a template that asks for an answer in other words than it shows one
        return both[len(prompt.text) :].removesuffix(self._after) + self._tail

    def _without_end(self, text: str) -> str:
        kept = text.rstrip()
        while self._end_text and kept.endswith(self._end_text):
            kept = kept[: -len(self._end_text)].rstrip()  # some data sets write the end marker into the text
            text = kept
        return text

    def _ended(self, prompt: Tokens, completion: Tokens, fate: Fate) -> Encoded:
        room = self.max_length - len(prompt)
        if len(completion) + 1 > room:
            return Encoded(prompt, completion[:room], fate | Fate.COMPLETION_CUT)
        return Encoded(prompt, (*completion, self.end), fate)

    def _begin(self) -> Tokens:
        begin = self.tokenizer.bos_token_id
        return () if begin is None else (int(begin),)

    def _begun(self, ids: Tokens) -> Tokens:
        """Put the begin marker in front where the template has not."""
        begin = self._begin()
        return ids if ids[: len(begin)] == begin else (*begin, *ids)


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    added = {str(token): i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))


def _without_oldest(prompt: Prompt) -> Prompt | None:
    """Drop the oldest turn and what answers it, a leading system turn last; None where one is left."""
    system = [turn for turn in prompt[:1] if turn.role == "system"]
    rest = list(prompt[len(system) :])
    later_users = [index for index, turn in enumerate(rest) if index and turn.role == "user"]
    if later_users:
        return (*system, *rest[later_users[0] :])
    return tuple(rest) if system and rest else None
