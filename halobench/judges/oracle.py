"""The world's annotators, with the taste and the noise of the choices in its pairs, or its true utility."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from halobench.judges.base import Answer, Judge
from halobench.registry import JUDGES

if TYPE_CHECKING:
    from halobench.materials import Materials


@JUDGES.register("oracle", source="halobench")
class Oracle(Judge):
    """The judge of the world's own pairs.

    Attributes:
        exact: go by the true utility, and not by what an annotator sees of it.
    """

    needs_world: ClassVar[bool] = True

    exact: bool = False

    def scores(self, answers: Sequence[Answer], materials: Materials, stream: random.Random) -> list[float]:
        """Return what is seen in each answer, or its true utility."""
        world = materials.world
        found = []
        for answer in answers:
            text = f"{answer.text} {world.end_marker}" if answer.ended else answer.text
            found.append(
                sum(world.utility(answer.prompt, text).values())
                if self.exact
                else world.perceived(answer.prompt, text, stream)
            )
        return found
