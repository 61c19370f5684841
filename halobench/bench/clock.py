"""The boundary between two steps: what a contestant reports there, and where it waits for its turn."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from typing import TextIO

import torch


def positive(text: str) -> int:
    """Read a number of rounds from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return number


def now(device: str) -> float:
    """Seconds: CPU time of this process, or on an accelerator wall time after all work is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes(device: str) -> int:
    """Most memory that this process ever held: resident, or allocated on the accelerator."""
    if device == "cpu":
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return torch.cuda.max_memory_allocated()


class Turnstile:
    """Called by a contestant before its first step and after every step; lets it through once per command.

    Args:
        commands: one line per wanted step; the process ends where they end.
        reports: receives one JSON object per call.
        device: that the contestant runs on.
    """

    def __init__(self, commands: TextIO, reports: TextIO, device: str) -> None:
        self._commands = commands
        self._reports = reports
        self._device = device
        self._began: float | None = None

    def __call__(self, loss: float | None = None) -> None:
        """Report the step that ended, if any, with its loss; return when the next one is wanted."""
        report: dict[str, float | int | None] = {}
        if self._began is not None:
            report["seconds"] = now(self._device) - self._began
            report |= {"loss": loss, "peak_bytes": peak_bytes(self._device)}
        self._reports.write(json.dumps(report) + "\n")
        self._reports.flush()
        if not self._commands.readline():
            os._exit(0)  # from within whatever loop is running
        self._began = now(self._device)
