"""Texts to token ids: one template, one begin marker, one end marker, the same for every loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from halobench.feedback import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# For tokenizers without a chat template: the transcript form of HH-RLHF.
TRANSCRIPT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '\n\nAssistant: ' if message['role'] == 'assistant' else '\n\nHuman: ' }}{{ message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)

Tokens = tuple[int, ...]


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> dict[str, Tokens]:
    """Return the token ids of distinct texts, without special tokens; one call is much faster than many."""
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return {}
    ids = tokenizer(distinct, add_special_tokens=False)["input_ids"]
    return dict(zip(distinct, map(tuple, ids), strict=True))


class Encoder:
    """Encodes prompts and completions apart, so that scoring and generation agree on every token.

    Args:
        tokenizer: has an end-of-sequence token; without a chat template the transcript form is used.
        max_length: of prompt and completion together.
        max_prompt_length: of the prompt.

    Attributes:
        truncated: how often a prompt lost its beginning, or a completion its end.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, max_length: int, max_prompt_length: int
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.truncated: Counter[str] = Counter()
        self._template = tokenizer.chat_template or TRANSCRIPT_TEMPLATE
        self._lead = "" if tokenizer.chat_template else " "
        self._encode_prompt = lru_cache(maxsize=None)(self._prompt)
        self._render = lru_cache(maxsize=None)(self._rendered)
        self._known: dict[str, Tokens] = {}

    def read(
        self,
        *,
        prompts: Iterable[Prompt] = (),
        completions: Iterable[str] = (),
        documents: Iterable[str] = (),
    ) -> None:
        """Tokenise many texts at once; whoever asks for them one by one then finds them."""
        texts = [self._render(prompt) for prompt in prompts]
        texts += [self._lead + text for text in completions]
        self._known |= tokenize(self.tokenizer, [*texts, *documents])

    def prompt(self, prompt: Prompt, control: str | None = None) -> Tokens:
        """Encode a prompt up to where the completion begins.

        Args:
            prompt: the turns.
            control: control token that ends the prompt, or None.
        """
        ids = self._encode_prompt(prompt)
        return ids if control is None else (*ids, self.control(control))

    def control(self, token: str) -> int:
        """Id of a control token."""
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def completion(self, text: str, num_prompt_tokens: int) -> Tokens:
        """Encode a completion; exactly one end marker, always scored, unless the text had to be cut.

        Args:
            text: the completion.
            num_prompt_tokens: tokens that its prompt takes of `max_length`.
        """
        ids = self._ids(self._lead + text)
        while ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]  # some data sets write the end marker into the text
        room = self.max_length - num_prompt_tokens
        if len(ids) + 1 > room:
            self.truncated["completion"] += 1
            return ids[:room]
        return (*ids, int(self.tokenizer.eos_token_id))

    def text(self, tokens: Sequence[int]) -> str:
        """Decode a sampled completion, without its end marker, to what `completion` encodes again."""
        kept = tokens[:-1] if tokens and tokens[-1] == self.tokenizer.eos_token_id else tokens
        return str(self.tokenizer.decode(kept, clean_up_tokenization_spaces=False)).removeprefix(self._lead)

    def document(self, text: str) -> tuple[Tokens, Tokens]:
        """Encode a pre-training text as a begin marker and everything after it."""
        begin = self.tokenizer.bos_token_id
        return (int(begin),), (*self._ids(text)[: self.max_length - 2], int(self.tokenizer.eos_token_id))

    def _rendered(self, prompt: Prompt) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                [turn._asdict() for turn in prompt],
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
            )
        )

    def _prompt(self, prompt: Prompt) -> Tokens:
        ids = self._ids(self._render(prompt))
        begin = self.tokenizer.bos_token_id
        if begin is not None and ids[:1] != (begin,):
            ids = (int(begin), *ids)
        if len(ids) <= self.max_prompt_length:
            return ids
        self.truncated["prompt"] += 1
        kept = self.max_prompt_length - (begin is not None)
        return (*((int(begin),) if begin is not None else ()), *ids[len(ids) - kept :])

    def _ids(self, text: str) -> Tokens:
        if text not in self._known:
            self._known |= tokenize(self.tokenizer, [text])
        return self._known[text]
