"""One training stage - base, SFT or alignment - from the folder of a model to the folder of another."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import AutoTokenizer, PreTrainedModel

from halobench.data.tokenize import Encoder
from halobench.errors import DivergedError
from halobench.losses.base import Loss
from halobench.losses.sft import SFT
from halobench.materials import Materials
from halobench.models.load import DTYPES, add_control_tokens, load_model, new_model, save_model
from halobench.models.logprobs import ScoredModel, ValueHead, can_pack
from halobench.recipe import Recipe
from halobench.sections import Optim
from halobench.storage import canonical_json, home
from halobench.training import CURVES, SUMMARY, Stage
from halobench.training.callbacks import Checkpoint, Progress
from halobench.training.data import StageData, alignment_data, base_data, sft_data
from halobench.training.module import AlignmentModule
from halobench.training.sampler import StepLoader
from halobench.training.strategies import make_strategy

Report = Callable[[str, int, int], None]


def train_stage(
    materials: Materials,
    stage: Stage,
    name: str,
    start: Path | None,
    output: Path,
    report: Report,
    *,
    reference: Path | None = None,
) -> None:
    """Train one stage and write a Hugging Face folder, its curves and a summary.

    Interrupted, the same call goes on from the last checkpoint to the same result. Every rank calls it; rank
    0 writes. A loss that is no longer finite leaves a folder without weights whose summary says "diverged".

    Args:
        materials: of the run.
        stage: which one.
        name: of the stage's checkpoints and logs.
        start: folder of the model it starts from; None for a new one.
        output: empty folder.
        report: told the phase, steps done and their number.
        reference: folder of the model that alignment is measured against; by default the one it starts from.
    """
    recipe = materials.recipe
    reference = reference or start
    began = time.perf_counter(), time.process_time()
    is_later_round = materials.round is not None and materials.round.number > 1
    tokenizer = AutoTokenizer.from_pretrained(start) if is_later_round else materials.tokenizer
    loss = materials.loss if stage == "align" else SFT()
    model = _start(recipe, stage, start, materials)
    add_control_tokens(model, tokenizer, loss.control_tokens)
    encoder = materials.encoder(tokenizer)
    packed = recipe.execution.hot_path == "fused" and can_pack(model)
    data = replace(
        _data(materials, encoder, stage, reference, report),
        packed=packed,
        each_reads_its_prompts=recipe.z0 == "microbatch",
    )
    labels = Counter(row.desirable for unit in data.units.values() for row in unit)
    loss = loss.fitted(labels[True], labels[False])
    module = _module(
        recipe,
        loss,
        stage,
        model,
        num_steps=len(data.plan),
        starts_at_reference=reference == start,
    )
    checkpoints = home() / "checkpoints" / name
    checkpoints.mkdir(parents=True, exist_ok=True)
    # a sharded checkpoint is a folder that one process cannot read, and the other way round
    checkpoint = checkpoints / ("sharded.ckpt" if recipe.execution.strategy == "fsdp" else "last.ckpt")
    trainer = _trainer(recipe, stage, name, checkpoint, len(data.plan), report)

    def share(index: int) -> object:
        return data.step(index, rank=trainer.global_rank, num_ranks=trainer.world_size)

    status, reason = "completed", None
    try:
        trainer.fit(
            module,
            StepLoader(len(data.plan), share),  # type: ignore[arg-type]
            ckpt_path=checkpoint if checkpoint.exists() else None,
        )
    except DivergedError as error:
        status, reason = "diverged", str(error)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning makes an exit of it
            raise KeyboardInterrupt from error
        raise
    weights = _full_weights(module) if status == "completed" else None
    if trainer.is_global_zero:
        if weights is not None:
            save_model(output, model, tokenizer, state_dict=weights)
        facts: dict[str, Any] = {"status": status, "reason": reason, "truncated": dict(encoder.truncated)}
        facts["seconds"] = {
            "wall": time.perf_counter() - began[0],
            "cpu": (time.process_time() - began[1]) * trainer.world_size,
        }
        facts |= {"desirable": labels[True], "undesirable": labels[False]}
        _write_summary(output, module, data, facts)
        shutil.rmtree(checkpoints, ignore_errors=True)
    trainer.strategy.barrier()


def _start(recipe: Recipe, stage: Stage, start: Path | None, materials: Materials) -> PreTrainedModel:
    if start is not None:
        return load_model(start, recipe.precision)
    model = new_model(recipe.model, materials.tokenizer, seed=recipe.base_seed)
    return model.to(DTYPES[recipe.precision])


def _data(
    materials: Materials, encoder: Encoder, stage: Stage, reference: Path | None, report: Report
) -> StageData:
    if stage == "base":
        return base_data(materials, encoder)
    if stage == "sft":
        return sft_data(materials, encoder)
    if reference is None:
        raise ValueError("alignment starts from a reference")
    return alignment_data(materials, encoder, reference, lambda done, total: report("reference", done, total))


def _module(
    recipe: Recipe,
    loss: Loss,
    stage: Stage,
    model: PreTrainedModel,
    *,
    num_steps: int,
    starts_at_reference: bool,
) -> AlignmentModule:
    def build() -> ScoredModel:
        if not loss.value_head:
            return ScoredModel(model)
        head = ValueHead(model.config.hidden_size, seed=recipe.seed)
        return ScoredModel(model, head.double() if recipe.precision == "64-true" else head)

    return AlignmentModule(
        loss,
        build,
        _optim(recipe, stage),
        num_steps=num_steps,
        z0_per_microbatch=recipe.z0 == "microbatch",
        starts_at_reference=starts_at_reference,
    )


def _optim(recipe: Recipe, stage: Stage) -> Optim:
    section = {"base": recipe.base, "sft": recipe.sft, "align": recipe}[stage]
    if section is None:
        raise ValueError(f"the recipe has no stage {stage}")
    return section.optim


def _trainer(
    recipe: Recipe, stage: Stage, name: str, checkpoint: Path, num_steps: int, report: Report
) -> L.Trainer:
    execution = recipe.execution
    return L.Trainer(
        **recipe.trainer,
        devices=execution.devices,
        strategy=make_strategy(execution),
        # float64 and bfloat16 weights are made as such, so Lightning has to convert nothing
        precision="bf16-mixed" if recipe.precision == "bf16-mixed" else "32-true",
        max_steps=num_steps,
        max_epochs=1,
        logger=_logger(execution.logger, name),
        log_every_n_steps=1,
        callbacks=[
            Checkpoint(checkpoint, every=execution.checkpoint_every),
            Progress(lambda done, total: report(stage, done, total)),
        ],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _logger(kind: str, name: str) -> Logger:
    folder = home() / "logs"
    if kind == "tensorboard":
        return TensorBoardLogger(folder, name=name)
    if kind == "wandb":
        return WandbLogger(name=name, project="halobench", save_dir=folder)
    return CSVLogger(folder, name=name)


def _full_weights(module: AlignmentModule) -> dict[str, object]:
    """The model's weights, gathered from all ranks."""
    if module.policy is None:
        raise ValueError("the module was not trained")
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = dict(get_model_state_dict(module.policy.model, options=options))
    # gathered apart, tied tensors are no longer one, and would be written twice
    tied = module.policy.model.all_tied_weights_keys
    return {name: weight for name, weight in weights.items() if name not in tied}


def _write_summary(output: Path, module: AlignmentModule, data: StageData, facts: dict[str, Any]) -> None:
    """Write the curves, and the facts with what was spent."""
    curves = pd.DataFrame(module.curves, columns=["step", "tokens", "metric", "value"])
    curves.to_parquet(output / CURVES, compression="zstd", index=False)
    planned = [unit for step in data.plan for unit in step]
    num_trained = sum(row.length for unit in planned for row in data.units[unit])
    num_extra = sum(row.length for unit in planned for row in (data.mismatched or {}).get(unit, ()))
    num_parameters = sum(parameter.numel() for parameter in module.parameters())
    spent = {
        "steps": len(data.plan),
        "completions": sum(len(data.units[unit]) for unit in planned),
        "tokens": num_trained + num_extra,
        # 2 per parameter and token forward, 4 backward; mismatched completions have no backward
        "flops": num_parameters * (6 * num_trained + 2 * num_extra),
        "parameters": num_parameters,
    }
    (output / SUMMARY).write_text(canonical_json(facts | spent))
