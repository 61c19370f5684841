"""What the stages and the scorers of a run work on, opened once: source, tokenizer, feedback, artifacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from halobench.check.sources import open_source
from halobench.data.sources.jsonl import read_feedback
from halobench.data.tokenize import TOO_LONG, Encoder
from halobench.data.tokens import TokenTable, tokenise
from halobench.errors import DataError
from halobench.feedback import Feedback, PromptSet, Response, Source
from halobench.losses.base import Loss
from halobench.models.load import load_tokenizer
from halobench.published.sizes import unfetched
from halobench.recipe import Recipe
from halobench.registry import LOSSES
from halobench.storage import Artifacts, home
from halobench.worlds.base import World

HOLDS_SPECIAL_TOKEN = "a text holds a special token of the tokenizer"
TOO_LONG_TEXT = "too long for max_length or max_prompt_length"


def _nobody(phase: str, done: int, total: int) -> None:
    """Tell nobody."""


class Round(NamedTuple):
    """What a round of online alignment is trained on.

    Attributes:
        number: from 1; later rounds start from a policy that knows the control tokens.
        feedback: file of JSON lines with the judged answers.
    """

    number: int
    feedback: Path


@dataclass(frozen=True)
class Materials:
    """Opened materials of one recipe.

    Attributes:
        recipe: the run.
        round: of its online alignment; None outside of one.
        report: told phase, done and total of what takes long.
    """

    recipe: Recipe
    round: Round | None = None
    report: Callable[[str, int, int], None] = _nobody

    @cached_property
    def artifacts(self) -> Artifacts:
        """Where intermediate results are kept."""
        return Artifacts(home())

    @cached_property
    def source(self) -> Source:
        """Where the feedback comes from."""
        return open_source(self.recipe.data, self.recipe.world_seed)

    @cached_property
    def world(self) -> World:
        """The source, where it is a world.

        Raises:
            DataError: it is none.
        """
        if not isinstance(self.source, World):
            raise DataError(
                f"{self.recipe.data.source!r} is not a world: it does not know the true utility of a text"
            )
        return self.source

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, before any control token is added."""
        return load_tokenizer(self.recipe.model, self.source if isinstance(self.source, World) else None)

    @cached_property
    def selected(self) -> Feedback:
        """What the source gives, before texts that cannot be tokenised are left out."""
        return _feedback(self.source, self.recipe.data.num_pairs, self.recipe.data_seed)

    @cached_property
    def feedback(self) -> Feedback:
        """The base selection: every loss is shown the same, whatever its view.

        Raises:
            DataError: nothing is left of it.
        """
        if unfetched(self.recipe):
            return self.selected  # what is only planned has no tokenizer to ask
        encoder = self.encoder(self.tokenizer)
        refused = {
            key: HOLDS_SPECIAL_TOKEN
            for key, row in self.selected.responses.items()
            if any(map(encoder.holds_special_token, (row.completion, *(turn.content for turn in row.prompt))))
        }
        if self.recipe.data.overlong == "drop":
            refused |= {
                key: TOO_LONG_TEXT for key in self.selected.responses if self.tokens.has_lost(key, TOO_LONG)
            }
        left = self.selected.without(refused)
        if not left.labels:
            told = ", ".join(f"{count} {reason}" for reason, count in Counter(refused.values()).items())
            raise DataError(
                f"no row is left to train on ({told}); raise data.max_length, or data.overlong: cut"
            )
        return left

    @cached_property
    def tokens(self) -> TokenTable:
        """The tokens of everything that is selected."""
        return self.tokenised(self.selected.responses)

    def tokenised(self, responses: Mapping[str, Response]) -> TokenTable:
        """The tokens of responses, made once whoever asks for them."""

        def report(done: int, total: int) -> None:
            self.report("tokenise", done, total)

        return tokenise(responses, self.encoder(self.tokenizer), self.artifacts, report)

    @cached_property
    def shown(self) -> Feedback:
        """What the alignment is shown a view of: the base selection, or the judged answers of a round."""
        return self.feedback if self.round is None else read_feedback(self.round.feedback)

    @cached_property
    def prompts(self) -> PromptSet:
        """The prompts to score, of the recipe's split."""
        return PromptSet(self.source.prompt_set(self.recipe.split).rows[: self.recipe.scoring.num_prompts])

    @cached_property
    def dev_prompts(self) -> PromptSet:
        """The prompts that choose T*."""
        return PromptSet(self.source.prompt_set("dev").rows[: self.recipe.scoring.num_prompts])

    @cached_property
    def loss(self) -> Loss:
        """The loss with its parameters."""
        parameters = {key: value for key, value in self.recipe.loss.items() if key != "name"}
        return LOSSES[self.recipe.loss["name"]](**parameters)

    def encoder(self, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """Return an encoder with the recipe's lengths."""
        data = self.recipe.data
        return Encoder(
            tokenizer,
            max_length=data.max_length,
            max_prompt_length=data.max_prompt_length,
            joins_turns=data.turns == "joined",
        )


def check_texts(recipes: Iterable[Recipe]) -> None:
    """Try the chat template of each model on a prompt of each sequence of roles in its data.

    Raises:
        DataError: it refuses one, or the tokenizer has no end marker; all of them at once.
    """
    distinct = {(recipe.model, recipe.data): recipe for recipe in recipes}.values()
    problems: dict[str, None] = {}
    for recipe in distinct:
        materials = Materials(recipe)
        if not materials.source.is_world:  # a world's tokenizer knows its own turns
            place = f"data.source = {recipe.data.source!r}, data.path = {recipe.data.path!r}"
            try:
                encoder = materials.encoder(materials.tokenizer)
                for prompt in materials.source.shapes():
                    encoder.prompt(prompt)
            except DataError as error:
                problems |= dict.fromkeys(f"{place}: {problem}" for problem in error.problems)
    if problems:
        raise DataError(*problems)


@lru_cache(maxsize=8)
def _feedback(source: Source, num_pairs: int | None, split_seed: int) -> Feedback:
    """The base selection, kept for the next runs of the same seeds."""
    return source.feedback(num_pairs=num_pairs, split_seed=split_seed)
