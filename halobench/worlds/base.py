"""World: a source of feedback with a closed-form utility, so that verdicts about its texts are exact."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from halobench.errors import DataError
from halobench.feedback import Prompt, Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Probe(NamedTuple):
    """A multiple-choice question about what pre-training taught.

    Attributes:
        context: the text before the answer.
        choices: the answers; the first is right.
    """

    context: str
    choices: tuple[str, ...]


class Document(NamedTuple):
    """A text of the pre-training corpus.

    Attributes:
        text: tokens separated by spaces, without begin and end markers.
        skill: the probe it teaches, or "dialogue".
    """

    text: str
    skill: str


class World(Source):
    """A generator of prompts, answers and judgements that knows the true utility of every text.

    Attributes:
        components: names of the parts of the utility.
        skills: names of the probes.
        end_marker: token that ends a text.
        world_seed: what the world was drawn from.
    """

    is_world: ClassVar[bool] = True
    components: ClassVar[tuple[str, ...]]
    skills: ClassVar[tuple[str, ...]]
    end_marker: ClassVar[str]
    world_seed: int

    def check_selection(self, *, num_pairs: int | None) -> None:
        """Raise unless the selection is finite."""
        if num_pairs is None:
            raise DataError("a world has no end of pairs; say how many, for example data.num_pairs: 3000")

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer of the world's language, with a chat template."""

    @abstractmethod
    def documents(self, num_documents: int, *, seed: int) -> Sequence[Document]:
        """Draw a pre-training corpus; it holds no prompt and no probe of the dev and test splits."""

    @abstractmethod
    def utility(self, prompt: Prompt, completion: str) -> Mapping[str, float]:
        """Return the components of the true utility of any text; their sum is the utility.

        Args:
            prompt: a prompt of this world.
            completion: tokens separated by spaces; its last token is the end marker if the text was ended.

        Raises:
            DataError: the prompt is not in the world's language.
        """

    @abstractmethod
    def perceived(self, prompt: Prompt, completion: str, coins: random.Random) -> float:
        """Return what an annotator sees in an answer, noise included.

        Of two answers, the one in which more is seen is preferred as often as in the pairs of `feedback`.

        Args:
            prompt: a prompt of this world.
            completion: as in `utility`.
            coins: the noise.

        Raises:
            DataError: the prompt is not in the world's language.
        """

    @abstractmethod
    def best_of(self, prompts: Sequence[Prompt], num_samples: int, *, seed: int) -> list[str]:
        """Return for each prompt the best, by true utility, of `num_samples` answers of the staff."""

    @abstractmethod
    def probes(self, skill: str, split: Literal["dev", "test"]) -> Sequence[Probe]:
        """Return the questions about one skill."""

    @abstractmethod
    def describe(self) -> str:
        """Return what a person needs to check an answer by hand."""
