"""The rounds: every contestant takes a step in turn, and what they cost is kept together."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from halobench.bench.clock import now
from halobench.bench.workload import Precision, Setting
from halobench.errors import TrainingError

NUM_WARMUP = 1  # steps before the first round
NUM_COMPARED = 3  # first steps whose losses have to agree
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "bf16": 1e-2}  # relative
_GEMM_SIZES = {"cpu": 2048, "cuda": 8192}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    # Or else freed buffers go back to the system and are paid for again in page faults, which doubles the
    # time of those who use most memory; the price is that everybody holds its peak between its turns.
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
_LOG_LINES = 20


class Lap(NamedTuple):
    """One step of one contestant.

    Attributes:
        seconds: CPU time; on an accelerator, wall time.
        loss: of the step, before it.
        peak_bytes: most memory that its process has held so far.
    """

    seconds: float
    loss: float
    peak_bytes: int


@dataclass(frozen=True)
class Outcome:
    """What was measured.

    Attributes:
        setting: of the measurement.
        laps: of each contestant, one per step, the warm-up included.
        gemm_rates: FLOP/s of a matrix product, one per step.
    """

    setting: Setting
    laps: dict[str, list[Lap]]
    gemm_rates: list[float]


def num_steps(rounds: int) -> int:
    """Steps to plan for so many rounds."""
    return max(NUM_COMPARED, NUM_WARMUP + rounds)


def compete(
    names: Sequence[str], setting: Setting, report: Callable[[str], None] = lambda line: None
) -> Outcome:
    """Let the contestants step in turn, the order reversed every round.

    Args:
        names: of the contestants.
        setting: what they train.
        report: told what happens, a line at a time.

    Raises:
        TrainingError: a contestant failed, or the losses of the first steps differ.
    """
    torch.set_num_threads(1)
    laps: dict[str, list[Lap]] = {name: [] for name in names}
    gemm_rates = []
    with ExitStack() as stack:
        processes = {}
        for name in names:
            report(f"{name}: prepares")
            processes[name] = stack.enter_context(Contestant(name, setting))
        for step in range(setting.num_steps):
            gemm_rates.append(gemm_rate(setting))
            for name in names if step % 2 == 0 else reversed(names):
                lap = processes[name].step()
                laps[name].append(lap)
                report(f"{name}: step {step + 1} of {setting.num_steps}, {lap.seconds:.2f} s")
            if step < NUM_COMPARED:
                require_agreement(setting, {name: laps[name][-1].loss for name in names}, step)
    return Outcome(setting, laps, gemm_rates)


def require_agreement(setting: Setting, losses: dict[str, float], step: int) -> None:
    """Raise a TrainingError if the contestants do not compute the same loss."""
    first, *others = losses.values()
    tolerance = TOLERANCES[setting.precision]
    if not math.isfinite(first) or any(not abs(other - first) <= tolerance * abs(first) for other in others):
        found = ", ".join(f"{name} {loss:.8g}" for name, loss in losses.items())
        raise TrainingError(
            f"{setting.model}, {setting.precision}, {setting.loss}, step {step + 1}: the losses differ by "
            f"more than {tolerance:g} of their size, so what is timed is not the same work: {found}"
        )


def gemm_rate(setting: Setting) -> float:
    """Measure FLOP/s of a square matrix product in the setting's precision, on one thread of this process."""
    size = _GEMM_SIZES[setting.device]
    dtype = torch.bfloat16 if setting.precision == "bf16" else torch.float32
    stream = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=stream).to(setting.device, dtype) for _ in range(2))
    left @ right  # warm up
    num_products = 4
    began = now(setting.device)
    for _ in range(num_products):
        left @ right
    return num_products * 2 * size**3 / (now(setting.device) - began)


class Contestant:
    """The process of a contestant; as a context, it is ready on entry and gone on exit."""

    def __init__(self, name: str, setting: Setting) -> None:
        self._name = name
        self._setting = setting

    def __enter__(self) -> Contestant:
        self._folder = TemporaryDirectory()
        self._log = Path(self._folder.name, "log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "halobench.bench.worker"),
                    *(self._name, json.dumps(asdict(self._setting))),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder.name,
                env={**os.environ, **ENVIRONMENT},
                text=True,
            )
        try:
            self._read()
        except BaseException:
            self.__exit__()
            raise
        return self

    def step(self) -> Lap:
        """Let it take its next step."""
        if self._process.stdin is not None:
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        return Lap(**self._read())

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            last = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise TrainingError(f"{self._name} ended with exit code {self._process.wait()}; it said:", *last)
        report: dict[str, Any] = json.loads(line)
        return report

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()  # the end of its input is the end of it
        self._folder.cleanup()
