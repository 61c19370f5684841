"""What the stages and the scorers of a run work on, opened once: source, tokenizer, feedback, artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from halobench.check import open_source
from halobench.data.sources.jsonl import read_feedback
from halobench.data.tokenize import Encoder
from halobench.errors import DataError
from halobench.feedback import Feedback, PromptSet, Source
from halobench.losses.base import Loss
from halobench.models.load import load_tokenizer
from halobench.recipe import Recipe
from halobench.registry import LOSSES
from halobench.storage import Artifacts, home
from halobench.worlds.base import World


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
    """

    recipe: Recipe
    round: Round | None = None

    @cached_property
    def artifacts(self) -> Artifacts:
        """Where intermediate results are kept."""
        return Artifacts(home())

    @cached_property
    def source(self) -> Source:
        """Where the feedback comes from."""
        data = self.recipe.data
        return open_source(data.source, data.path, data.pairing, self.recipe.world_seed)

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
    def feedback(self) -> Feedback:
        """The base selection."""
        return _feedback(self.source, self.recipe.data.num_pairs, self.recipe.data_seed)

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
        return Encoder(tokenizer, max_length=data.max_length, max_prompt_length=data.max_prompt_length)


@lru_cache(maxsize=8)
def _feedback(source: Source, num_pairs: int | None, split_seed: int) -> Feedback:
    """The base selection, kept for the next runs of the same seeds."""
    return source.feedback(num_pairs=num_pairs, split_seed=split_seed)
