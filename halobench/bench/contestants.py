"""Who takes part: halobench by its fused and its padded path, in the Trainer and in a bare loop, and TRL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from halobench.bench.clock import Turnstile
from halobench.bench.peers import train_with_trl
from halobench.bench.workload import Setting, Units, Work, make_work
from halobench.data.batches import Microbatch, Step, make_step
from halobench.losses.base import Loss, Pairs
from halobench.losses.dpo import DPO
from halobench.losses.kto import KTO
from halobench.models.logprobs import Scored, ScoredModel
from halobench.models.reference import score_rows
from halobench.sections import Optim
from halobench.training.module import AlignmentModule
from halobench.training.objective import Constants, logps_of, make_batch
from halobench.training.sampler import StepLoader

BARE = "halobench-bare"
BETA = 0.1
# TRL's defaults, but for a rate that changes something and does not decay
OPTIM = Optim(lr=1e-5, betas=(0.9, 0.999), warmup_fraction=0.0, final_fraction=1.0, clip=1.0)
_ONE_MICROBATCH = 2**30  # tokens


def _loss(setting: Setting) -> Loss:
    return DPO(beta=BETA) if setting.loss == "dpo" else KTO(beta=BETA)


def _scored_work(setting: Setting) -> list[Work]:
    """The steps, with the reference's log-probabilities in every row."""
    steps = make_work(setting)
    rows = [row for work in steps for unit in chain(work.units, work.mismatched or ()) for row in unit]
    with setting.autocast():
        scores = iter(score_rows(ScoredModel(setting.reference()), rows))
    return [
        Work(
            _with_scores(work.units, scores),
            None if work.mismatched is None else _with_scores(work.mismatched, scores),
        )
        for work in steps
    ]


def _with_scores(units: Units, scores: Iterator[np.ndarray]) -> Units:
    return [tuple(row._replace(reference=next(scores)) for row in unit) for unit in units]


def _make_step(work: Work, *, packed: bool) -> Step:
    return make_step(work.units, work.mismatched, max_tokens=_ONE_MICROBATCH, packed=packed)


def train_in_trainer(setting: Setting, turnstile: Turnstile, *, packed: bool) -> None:
    """Train as `halobench run` does: an AlignmentModule in Lightning's loop, a line in the log per step."""
    steps = _scored_work(setting)
    module = AlignmentModule(
        _loss(setting),
        lambda: ScoredModel(setting.policy()),
        OPTIM,
        num_steps=setting.num_steps,
        starts_at_reference=False,
    )

    def last_loss() -> float | None:
        return {name: value for _, _, name, value in module.curves}.get("loss")

    def make(index: int) -> Step:
        turnstile(last_loss())
        return _make_step(steps[index], packed=packed)

    trainer = L.Trainer(
        accelerator=setting.device,
        devices=1,
        precision="bf16-mixed" if setting.precision == "bf16" else "32-true",
        max_steps=setting.num_steps,
        max_epochs=1,
        logger=CSVLogger(Path.cwd()),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, StepLoader(setting.num_steps, make))
    turnstile(last_loss())


def train_bare(setting: Setting, turnstile: Turnstile) -> None:
    """Train by a plain loop over the same steps: what the Trainer's loop is compared with."""
    steps = _scored_work(setting)
    policy = ScoredModel(setting.policy()).train()
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=OPTIM.lr, betas=OPTIM.betas, weight_decay=OPTIM.weight_decay, fused=True
    )
    value = None
    for work in steps:
        turnstile(value)
        (microbatch,) = _make_step(work, packed=True).to(torch.device(setting.device)).microbatches
        with setting.autocast():
            loss = policy(
                microbatch.rows,
                objective=_MeanLoss(_loss(setting), microbatch),
                mismatched=microbatch.mismatched,
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), OPTIM.clip)
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()
    turnstile(value)


class _MeanLoss:
    """The mean loss of a microbatch that is a whole step, without metrics; an `Objective`."""

    separable = True

    def __init__(self, loss: Loss, microbatch: Microbatch) -> None:
        self.rows_per_example = 2 if loss.view() is Pairs else 1
        self._loss = loss
        self._microbatch = microbatch
        self._num_rows = len(microbatch.rows.completion_lengths)
        self._constants = Constants()

    def start(self, own: Callable[[], Scored], mismatched: Scored | None) -> None:
        if mismatched is not None and self._microbatch.mismatched is not None:
            others = logps_of(mismatched, self._microbatch.mismatched.reference, slice(None))
            self._constants = Constants(z0=others.log_ratio.mean().clamp(min=0))

    def __call__(self, scored: Scored, rows: slice) -> Tensor:
        batch = make_batch(self._loss, scored, self._microbatch, rows, self._constants)
        return self._loss(batch).losses.sum() * self.rows_per_example / self._num_rows


CONTESTANTS: dict[str, Callable[[Setting, Turnstile], None]] = {
    "halobench": partial(train_in_trainer, packed=True),
    BARE: train_bare,
    "halobench-reference": partial(train_in_trainer, packed=False),
    "trl-best": partial(train_with_trl, optim=OPTIM, beta=BETA, best=True),
    "trl-default": partial(train_with_trl, optim=OPTIM, beta=BETA, best=False),
}
