"""The reference's log-probabilities, computed once and shared by every run that needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from halobench.data.rows import Row
from halobench.models.load import NO_TRUST, best_device, load_model, weights_digest
from halobench.models.logprobs import ScoredModel, batches
from halobench.sections import Trust
from halobench.storage import Artifacts, digest, file_digest

_VALUES, _DIGEST = "logps.npy", "sha256"


def with_reference(
    rows: Sequence[Row],
    folder: Path,
    artifacts: Artifacts,
    *,
    precision: str,
    trust: Trust = NO_TRUST,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Return the rows with the log-probabilities that the model in `folder` gives to their completions.

    They are kept per token in float32, under the digest of the weights and of every token id, and made again
    where the file is no longer what was written.

    Args:
        rows: prompts and completions.
        folder: the reference, a Hugging Face folder.
        artifacts: where they are kept.
        precision: in which the model computes.
        trust: what of the model may run code.
        report: told how many rows are done, of how many.
    """
    sequences = [[list(row.prompt), list(row.completion)] for row in rows]
    key = {"weights": weights_digest(folder), "precision": precision, "sequences": digest(sequences)}

    def build(target: Path) -> None:
        model = ScoredModel(load_model(folder, precision, trust).to(best_device()))
        mixed = torch.autocast(best_device().type, torch.bfloat16, enabled=precision == "bf16-mixed")
        with mixed:  # as in training, or step 0 would not start at zero
            scores = score_rows(model, rows, report=report)
        np.save(target / _VALUES, np.concatenate(scores))
        (target / _DIGEST).write_text(file_digest(target / _VALUES))

    folder_of_values = artifacts.get("reference", digest(key)[:16], build, is_sound=_is_sound)
    values = np.load(folder_of_values / _VALUES, mmap_mode="r")
    ends = np.cumsum([len(row.completion) for row in rows])
    return [
        row._replace(reference=values[end - len(row.completion) : end])
        for row, end in zip(rows, ends, strict=True)
    ]


def _is_sound(folder: Path) -> bool:
    """Whether the values are those that were written; a disk may have filled up, or somebody edited them."""
    values, expected = folder / _VALUES, folder / _DIGEST
    return values.is_file() and expected.is_file() and file_digest(values) == expected.read_text()


@torch.no_grad()
def score_rows(
    model: ScoredModel,
    rows: Sequence[Row],
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[np.ndarray]:
    """Return, for each row, the log-probabilities in nats of its completion's tokens, float32.

    Args:
        model: scores on the device it is on.
        rows: prompts and completions, in any order; in batches.
        report: told how many rows are done, of how many.
    """
    scores: list[np.ndarray] = [np.empty(0, np.float32)] * len(rows)
    done = 0
    for part, batch in batches(model.model, [row._replace(reference=None) for row in rows]):
        logps = model(batch).logps.float()
        for index, values in zip(part, logps.cpu().numpy(), strict=True):
            scores[index] = values[: len(rows[index].completion)].copy()
        done += len(part)
        report(done, len(rows))
    return scores
