"""How much training, by which optimizer, how fast, and how the settings were found."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge

from halobench.sections.base import Count, Fraction, NonNegative, Positive, Section


class Optim(Section):
    """AdamW with linear warm-up and linear decay.

    Attributes:
        lr: peak learning rate.
        betas: decay of the moments.
        weight_decay: decoupled weight decay.
        warmup_fraction: share of the steps before the peak.
        final_fraction: floor under the decay, as a share of the peak.
        clip: largest norm of the gradient.
    """

    lr: Positive
    betas: tuple[Fraction, Fraction] = (0.9, 0.98)
    weight_decay: NonNegative = 0.0
    warmup_fraction: Fraction = 0.1
    final_fraction: Fraction = 0.02
    clip: Positive = 1.0


class BaseStage(Section):
    """Pre-training on a world's documents.

    Attributes:
        num_documents: size of the corpus.
        steps: optimizer steps.
        batch_documents: documents per step.
        optim: its optimizer.
    """

    num_documents: Count
    steps: Count
    batch_documents: Count
    optim: Optim


class SFTStage(Section):
    """Fine-tuning on the chosen completions of the base selection; makes the reference.

    Attributes:
        epochs: passes over the demonstrations.
        batch_pairs: demonstrations per step.
        optim: its optimizer.
    """

    epochs: Positive = 1.0
    batch_pairs: Count
    optim: Optim


class Budget(Section):
    """How much every loss may train.

    Attributes:
        match: what is equal over losses: passes over the base pairs, completions consumed, or optimizer
            steps.
        epochs: passes over the base pairs.
        batch_pairs: pairs per optimizer step: twice as many completions in unpaired views, once in
            demonstrations.
        multiple: factor on the budget of one row; such a row is marked and unranked.
    """

    match: Literal["pairs", "examples", "steps"] = "pairs"
    epochs: Positive = 1.0
    batch_pairs: Count = 32
    multiple: Positive = 1.0


class Execution(Section):
    """Where and how fast; changes no result, so it is not part of a run's identity.

    Attributes:
        devices: processes that train one run.
        strategy: "auto" (one process), "ddp" or "fsdp".
        threads: CPU threads of a process.
        checkpoint_every: optimizer steps between checkpoints.
        microbatch_tokens: largest number of tokens, padding included, of one forward pass.
        hot_path: "fused" packs rows, computes a prompt once and logits where they are scored; "reference" is
            the plain padded computation of the same.
        gradient_checkpointing: whether layers are computed again in the backward pass, which takes a third
            more time and much less memory.
        compile: whether torch.compile makes kernels of the layers, but for their attention; for GPUs.
        logger: Lightning logger of the training curves.
    """

    devices: Count = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    threads: Count = 1
    checkpoint_every: Count = 200
    microbatch_tokens: Count = 16384
    hot_path: Literal["fused", "reference"] = "fused"
    gradient_checkpointing: bool = False
    compile: bool = False
    logger: Literal["csv", "tensorboard", "wandb"] = "csv"


class Tuning(Section):
    """The search that chose the hyper-parameters of a row; stated by their file, shown on the board.

    Attributes:
        trials: settings tried.
        seeds: seeds of each.
        split: prompts that chose.
    """

    trials: Annotated[int, Ge(0)] = 0
    seeds: Annotated[int, Ge(0)] = 0
    split: Literal["dev"] = "dev"
