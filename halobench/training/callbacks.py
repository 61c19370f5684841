"""Callbacks of a run: checkpoints that are whole or absent, and progress for whoever watches."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from halobench.storage import WRITING


class Checkpoint(L.Callback):
    """Saves everything that training needs to go on, every so many steps, keeping the latest.

    Args:
        path: the checkpoint; a file, or a folder under fsdp.
        every: optimizer steps between two.
    """

    def __init__(self, path: Path, *, every: int) -> None:
        self._path = path
        self._every = every

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save under another name, then rename: a kill leaves the previous checkpoint or this one."""
        if trainer.global_step % self._every or trainer.global_step == trainer.max_steps:
            return
        temporary = self._path.with_name(f".tmp-{self._path.name}")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            outgoing = self._path.with_name(f".old-{self._path.name}")
            with WRITING:
                if self._path.is_dir():
                    self._path.rename(outgoing)
                temporary.rename(self._path)
            shutil.rmtree(outgoing, ignore_errors=True)
        trainer.strategy.barrier()


class Progress(L.Callback):
    """Tells how many steps are done.

    Args:
        report: called with the steps done and their number.
    """

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Report on rank 0."""
        if trainer.is_global_zero:
            self._report(trainer.global_step, int(trainer.max_steps))
