"""The reference's log-probabilities, computed once and shared by every run that needs them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from halobench.data.rows import Row, RowsOnDemand, token_bytes
from halobench.models.load import NO_TRUST, best_device, load_model, weights_digest
from halobench.models.logprobs import ScoredModel, batches
from halobench.sections import Trust
from halobench.storage import Artifacts, file_digest

Report = Callable[[int, int], None]
_VALUES, _DIGEST = "logps.npy", "sha256"


def _nobody(done: int, total: int) -> None:
    """Tell nobody."""


def reference_logps(
    rows: Sequence[Row],
    folder: Path,
    artifacts: Artifacts,
    *,
    precision: str,
    trust: Trust = NO_TRUST,
    report: Report = _nobody,
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities that the model in `folder` gives to completions, and where each one's begin.

    They are asked for in the order of their tokens and each once, so that losses that see the same
    completions in another order, or under other labels, share one artifact. They are kept per token in
    float32, under the digest of the weights and of every token id, memory-mapped, and made again where the
    file is no longer what was written.

    Args:
        rows: prompts and completions, which may be put together when they are asked for.
        folder: the reference, a Hugging Face folder.
        artifacts: where they are kept.
        precision: in which the model computes.
        trust: what of the model may run code.
        report: told how many rows are done, of how many.

    Returns:
        (S,) log-probabilities in nats of the tokens of all distinct completions, (N,) where each row's begin.
    """
    keys = [(token_bytes(row.prompt), token_bytes(row.completion)) for row in rows]
    numbers = {key: number for number, key in enumerate(keys)}
    distinct = sorted(numbers)
    lengths = [len(completion) // 4 for _, completion in distinct]
    starts = dict(zip(distinct, np.cumsum([0, *lengths]).tolist(), strict=False))
    name = hashlib.sha256(f"{weights_digest(folder)}-{precision}".encode())
    for prompt, completion in distinct:
        for part in (prompt, completion):
            name.update(len(part).to_bytes(8, "big") + part)

    def build(target: Path) -> None:
        model = ScoredModel(load_model(folder, precision, trust).to(best_device()))
        mixed = torch.autocast(best_device().type, torch.bfloat16, enabled=precision == "bf16-mixed")
        with mixed:  # as in training, or step 0 would not start at zero
            scores = score_rows(model, _Chosen(rows, [numbers[key] for key in distinct]), report=report)
        np.save(target / _VALUES, np.concatenate(scores))
        (target / _DIGEST).write_text(file_digest(target / _VALUES))

    kept = artifacts.get("reference", name.hexdigest()[:16], build, is_sound=_is_sound)
    values = np.load(kept / _VALUES, mmap_mode="r")
    return values, np.array([starts[key] for key in keys])


class _Chosen(RowsOnDemand):
    """Some of the rows of a sequence."""

    def __init__(self, rows: Sequence[Row], numbers: Sequence[int]) -> None:
        self._rows, self._numbers = rows, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def row(self, index: int) -> Row:
        return self._rows[self._numbers[index]]


def _is_sound(folder: Path) -> bool:
    """Whether the values are those that were written; a disk may have filled up, or somebody edited them."""
    values, expected = folder / _VALUES, folder / _DIGEST
    return values.is_file() and expected.is_file() and file_digest(values) == expected.read_text()


@torch.no_grad()
def score_rows(
    model: ScoredModel,
    rows: Sequence[Row],
    *,
    report: Report = _nobody,
) -> list[np.ndarray]:
    """Return, for each row, the log-probabilities in nats of its completion's tokens, float32.

    Args:
        model: scores on the device it is on.
        rows: prompts and completions, in any order; in batches.
        report: told how many rows are done, of how many.
    """
    scores: list[np.ndarray] = [np.empty(0, np.float32)] * len(rows)
    done = 0
    for part, batch in batches(model.model, rows):
        logps = model(batch).logps.float()
        for index, values in zip(part, logps.cpu().numpy(), strict=True):
            scores[index] = values[: len(rows[index].completion)].copy()
        done += len(part)
        report(done, len(rows))
    return scores
