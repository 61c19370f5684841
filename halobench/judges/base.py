"""What a judge is asked and what it says: a number for each answer, higher is better."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from halobench.feedback import Prompt
from halobench.sections import Section

if TYPE_CHECKING:
    from halobench.materials import Materials


class Answer(NamedTuple):
    """An answer to be judged.

    Attributes:
        prompt: what was asked.
        text: the answer, without the end marker.
        ended: whether the end marker was emitted, before the room was used up.
    """

    prompt: Prompt
    text: str
    ended: bool


class Judge(Section):
    """Scores answers; annotated fields are its parameters, a field `path` the place of what it judges by.

    Of the answers to a prompt the best is preferred to the worst; equal scores are a tie and give no pair.

    Attributes:
        needs_world: whether it asks the world for the true utility.
        version: changes with what the scores mean.
    """

    needs_world: ClassVar[bool] = False
    version: ClassVar[int] = 1

    def content(self) -> str | None:
        """Return a digest of what is at `path`; None where the parameters say everything.

        Raises:
            DataError: it cannot be used; one line, which follows the name of the key.
        """
        return None

    @abstractmethod
    def scores(
        self, answers: Sequence[Answer], materials: Materials, stream: random.Random
    ) -> Sequence[float]:
        """Return a finite score for each answer.

        Args:
            answers: those to one prompt stand together.
            materials: of the run.
            stream: whatever is random about it, of the recipe's `split_seed` and the round.
        """
