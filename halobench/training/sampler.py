"""The loader: walks the plan of the optimizer steps, and goes on where a checkpoint left it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from halobench.data.batches import Step


class StepLoader:
    """Yields one optimizer step at a time; Lightning saves and restores the position through the two methods.

    Args:
        num_steps: length of the plan.
        make: index of a step to this rank's share of it.
    """

    def __init__(self, num_steps: int, make: Callable[[int], Step]) -> None:
        self._num_steps = num_steps
        self._make = make
        self._position = 0

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[Step]:
        while self._position < self._num_steps:
            step = self._make(self._position)
            self._position += 1
            yield step

    def state_dict(self) -> dict[str, int]:
        """Steps delivered so far."""
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after that many steps."""
        self._position = state["position"]
