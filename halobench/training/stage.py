"""One training stage - base, SFT or alignment - from the folder of a model to the folder of another."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from halobench.data.tokens import TokenRows
from halobench.errors import DivergedError
from halobench.losses.base import Loss
from halobench.losses.sft import SFT
from halobench.materials import Materials
from halobench.models.adapter import add_adapter, in_four_bits, merge, save_adapter
from halobench.models.checkpointing import checkpoint_layers
from halobench.models.compiling import compile_layers
from halobench.models.load import DTYPES, add_control_tokens, add_rows, load_model, new_model, save_model
from halobench.models.logprobs import ScoredModel, ValueHead, can_pack
from halobench.recipe import Recipe
from halobench.sections import Adapter, Optim
from halobench.storage import canonical_json, home
from halobench.training import ADAPTER, CURVES, SUMMARY, Stage
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
    materials = replace(materials, report=report)
    if materials.round is not None and materials.round.number > 1:
        tokenizer = AutoTokenizer.from_pretrained(  # knows the control tokens by now
            start, trust_remote_code=recipe.model.trust_remote_code
        )
    else:
        tokenizer = deepcopy(materials.tokenizer)  # no text means a control token, whatever the loss
    loss = materials.loss if stage == "align" else SFT()
    adapter = None if stage == "base" else recipe.adapter
    num_known = len(tokenizer)
    model = _trainable(materials, tokenizer, loss, stage, start, adapter)
    controls = dict(
        zip((True, False), tokenizer.convert_tokens_to_ids(list(loss.control_tokens)), strict=False)
    )
    packed = recipe.execution.hot_path == "fused" and can_pack(model)
    data = replace(
        _data(materials, controls, stage, reference),
        packed=packed,
        each_reads_its_prompts=recipe.z0 == "microbatch",
    )
    labels = data.labels
    loss = loss.fitted(labels[True], labels[False])
    module = _module(
        recipe,
        loss,
        stage,
        model,
        num_steps=len(data.plan),
        # of a model in 4 bits the reference is the one before it was rounded
        starts_at_reference=reference == start and (adapter is None or adapter.kind == "lora"),
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
    weights = _full_weights(module, only_trained=adapter is not None) if status == "completed" else None
    if trainer.is_global_zero:
        if weights is not None and adapter is None:
            save_model(output, model, tokenizer, state_dict=weights)
        elif weights is not None:
            save_adapter(output / ADAPTER, model, weights)
            plain = _start(materials, start)
            add_rows(plain, num_known, len(tokenizer))
            save_model(output, merge(plain, output / ADAPTER), tokenizer)
        facts: dict[str, Any] = {"status": status, "reason": reason}
        facts["truncated"] = data.rows.lost if isinstance(data.rows, TokenRows) else {}
        facts["seconds"] = {
            "wall": time.perf_counter() - began[0],
            "cpu": (time.process_time() - began[1]) * trainer.world_size,
        }
        facts |= {"desirable": labels[True], "undesirable": labels[False]}
        _write_summary(output, module, data, facts)
        shutil.rmtree(checkpoints, ignore_errors=True)
    trainer.strategy.barrier()


def _start(materials: Materials, start: Path | None) -> PreTrainedModel:
    """The model that a stage starts from, in 4 bits where the recipe says so."""
    recipe = materials.recipe
    if start is not None:
        rounded = recipe.adapter is not None and recipe.adapter.kind == "qlora"
        compute = torch.float32 if recipe.precision == "32-true" else torch.bfloat16
        return load_model(
            start,
            recipe.precision,
            recipe.model.trust,
            quantization=in_four_bits(compute) if rounded else None,
        )
    model = new_model(recipe.model, materials.tokenizer, seed=recipe.base_seed)
    return model.to(DTYPES[recipe.precision])


def _trainable(
    materials: Materials,
    tokenizer: PreTrainedTokenizerBase,
    loss: Loss,
    stage: Stage,
    start: Path | None,
    adapter: Adapter | None,
) -> PreTrainedModel:
    """The model that a stage starts from, ready to be trained; the tokenizer gets to know control tokens."""
    recipe = materials.recipe
    model = _start(materials, start)
    add_control_tokens(model, tokenizer, loss.control_tokens)
    if adapter is not None:
        add_adapter(
            model,
            adapter,
            tokens=[tokenizer.convert_tokens_to_ids(token) for token in loss.control_tokens],
            seed=recipe.data_seed if stage == "sft" else recipe.seed,
            base=_hub_id(recipe, stage),
        )
    if recipe.execution.gradient_checkpointing:
        checkpoint_layers(model)
    if recipe.execution.compile:
        compile_layers(model)
    return model


def _hub_id(recipe: Recipe, stage: Stage) -> str | None:
    """Id of the model that a stage starts from, where that is one of the Hub."""
    is_first = stage == "sft" or recipe.sft is None
    return recipe.model.path if is_first and recipe.model.revision is not None else None


def _data(
    materials: Materials, controls: Mapping[bool, int], stage: Stage, reference: Path | None
) -> StageData:
    if stage == "base":
        return base_data(materials)
    if stage == "sft":
        return sft_data(materials)
    if reference is None:
        raise ValueError("alignment starts from a model")
    return alignment_data(materials, controls, reference)


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
        dropout_seed=recipe.seed if recipe.adapter is not None and recipe.adapter.dropout > 0 else None,
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


def _full_weights(module: AlignmentModule, *, only_trained: bool) -> dict[str, object]:
    """The model's weights, or those that were trained, gathered from all ranks."""
    if module.policy is None:
        raise ValueError("the module was not trained")
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=only_trained)
    weights = dict(get_model_state_dict(module.policy.model, options=options))
    # gathered apart, tied tensors are no longer one, and would be written twice
    tied = module.policy.model.all_tied_weights_keys
    return {name: weight for name, weight in weights.items() if name not in tied}


def _num_parameters(module: AlignmentModule) -> int:
    """Of the model and the critic; several weights of 4 bits are one number."""
    if module.policy is None:
        raise ValueError("the module was not trained")
    critic = module.policy.value_head
    more = 0 if critic is None else sum(weight.numel() for weight in critic.parameters())
    return int(module.policy.model.num_parameters()) + more


def _write_summary(output: Path, module: AlignmentModule, data: StageData, facts: dict[str, Any]) -> None:
    """Write the curves, and the facts with what was spent."""
    curves = pd.DataFrame(module.curves, columns=["step", "tokens", "metric", "value"])
    curves.to_parquet(output / CURVES, compression="zstd", index=False)
    planned = [unit for step in data.plan for unit in step]
    num_trained, num_extra = (
        0 if rows is None else sum(rows[row].length for unit in planned for row in data.units[unit])
        for rows in (data.rows, data.mismatched)
    )
    num_parameters = _num_parameters(module)
    num_trained_parameters = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    spent = {
        "steps": len(data.plan),
        "completions": sum(len(data.units[unit]) for unit in planned),
        "tokens": num_trained + num_extra,
        # 2 per parameter and token forward, 2 backward, 2 for the gradient of a trained one; mismatched
        # completions have no backward
        "flops": num_parameters * (4 * num_trained + 2 * num_extra)
        + num_trained_parameters * 2 * num_trained,
        "parameters": num_parameters,
    }
    (output / SUMMARY).write_text(canonical_json(facts | spent))
