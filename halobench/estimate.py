"""What a run takes: tokens, FLOPs and memory, before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from transformers import AutoConfig, LlamaConfig

from halobench.cost import (
    NOTHING,
    WEIGHT_BYTES,
    Memory,
    Shape,
    Traffic,
    adapter_parameters,
    flops,
    memory,
    shape_of,
)
from halobench.counting import SAMPLERS, Counts, count
from halobench.losses.base import Loss
from halobench.materials import Materials
from halobench.published.sizes import UNFETCHED, model_config
from halobench.recipe import Recipe
from halobench.stages import stages_of
from halobench.storage import digest

# texts that are sampled at the same time, and bytes of their keys and values on a GPU; see generation.py
_NUM_TEXTS, _KEPT_BYTES = 1024, 2**33


@dataclass(frozen=True)
class Cost:
    """What a run takes.

    Attributes:
        tokens: that its alignment trains on, as records count them: a prompt once for each completion.
        flops: of the alignment, its own passes without gradient, and its scoring.
        shared: name of each pass that other runs need too (stages, the reference's log-probabilities) to its
            FLOPs.
        memory: of the alignment, in bytes.
    """

    tokens: float
    flops: float
    shared: dict[str, float]
    memory: Memory


def estimate(recipe: Recipe) -> Cost:
    """Estimate what a run takes."""
    loss = Materials(recipe).loss
    counts = count(recipe)
    shape = _shape(recipe)
    trained = _adapter(recipe, shape)
    recomputes = recipe.execution.gradient_checkpointing

    def cost(traffic: Traffic, *, gradient: bool, adapted: bool = True) -> float:
        """FLOPs of a pass of this model."""
        return flops(
            traffic,
            shape,
            gradient=gradient,
            adapter=trained if adapted else None,
            recomputes=recomputes and gradient,
        )

    shared: dict[str, float] = {}
    keys = {key.stage: key.path.name for key in stages_of(recipe)}
    if recipe.base is not None and "base" in keys:
        documents = recipe.base.steps * recipe.base.batch_documents
        shared[keys["base"]] = cost(
            Traffic.of(0, documents, 0, counts.document), gradient=True, adapted=False
        )
    if recipe.sft is not None and "sft" in keys:
        shown = recipe.sft.epochs * counts.demonstrations
        shared[keys["sft"]] = cost(
            Traffic.of(shown, shown, counts.prompt, counts.completion), gradient=True, adapted=False
        )
    own = tokens = 0.0
    trains = NOTHING
    if recipe.evaluate == "aligned":
        packed = recipe.execution.hot_path == "fused"
        trains = _traffic(counts, counts.units, counts.completions, packed=packed)
        own += cost(trains, gradient=True)
        in_parts = trains.tokens > counts.steps * _step_tokens(recipe)
        if loss.uses_z0:
            own += cost(_mismatched(counts, in_parts=in_parts, packed=packed), gradient=False)
        if type(loss).statistics is not Loss.statistics and in_parts:
            own += cost(trains, gradient=False)  # asked for before the first microbatch of several
        passes = 2 if loss.uses_z0 else 1
        tokens = passes * counts.completions * (counts.prompt + counts.completion)
        if recipe.data.online is not None:
            sampled = recipe.data.online.samples_per_prompt * counts.pairs
            tokens += counts.pairs * counts.prompt + sampled * counts.completion
            asked = Traffic.of(counts.pairs, sampled, counts.prompt, counts.completion)
            own += cost(asked, gradient=False)
        if loss.needs_reference:
            rows = _traffic(counts, counts.prompts, counts.rows, packed=packed)
            shared[f"reference-{_rows_key(recipe)}"] = cost(rows, gradient=False)
            if loss.uses_z0:
                rows = _traffic(counts, counts.rows, counts.rows, packed=packed)
                shared[f"mismatched-{_rows_key(recipe)}"] = cost(rows, gradient=False)
    own += cost(_scored(recipe, counts), gradient=False)
    return Cost(tokens, own, shared, _memory(recipe, shape, trained, counts, trains))


def _traffic(counts: Counts, units: float, completions: float, *, packed: bool) -> Traffic:
    """Completions with their prompts: once for each unit, or, padded, for each completion."""
    return Traffic.of(units if packed else completions, completions, counts.prompt, counts.completion)


def _mismatched(counts: Counts, *, in_parts: bool, packed: bool) -> Traffic:
    """The other completions for z0: on the prompts of the main pass, or standing alone in steps of parts."""
    alone = Traffic.of(counts.completions, counts.completions, counts.prompt, counts.completion)
    if not packed or in_parts:
        return alone
    scored = counts.completions * counts.completion
    return Traffic(scored, scored, scored * (counts.prompt + counts.completion / 2))


def _step_tokens(recipe: Recipe) -> float:
    """Tokens of a step that go through at once."""
    return recipe.execution.microbatch_tokens * recipe.execution.devices


def _scored(recipe: Recipe, counts: Counts) -> Traffic:
    """What scoring asks of the policy, its longest answers taken."""
    total = NOTHING
    scoring = recipe.scoring
    if "implied_reward" in scoring.scorers and recipe.evaluate == "aligned":
        total += Traffic.of(counts.test, 2 * counts.test, counts.prompt, counts.completion)
    if set(SAMPLERS) & set(scoring.scorers):
        choices = [scoring.samples_per_prompt if t > 0 else 1 for t in scoring.temperatures]
        passes = [(counts.dev, samples) for samples in choices] if "oracle" in scoring.scorers else []
        passes += [(counts.test, scoring.samples_per_prompt)] * (2 if passes else 1)  # at T=1, and at T*
        for prompts, samples in passes:
            total += Traffic.of(prompts, prompts * samples, counts.prompt, scoring.max_new_tokens)
    return total


def _rows_key(recipe: Recipe) -> str:
    """Digest of which rows the reference scores; what thins them makes others of them."""
    data = recipe.data.model_dump(mode="json", exclude_defaults=True)
    thinned = {
        key: data[key]
        for key in ("answers", "fraction", "desirable_fraction", "undesirable_fraction", "demonstrations")
        if key in data
    }
    return digest(
        [
            recipe.reference_identity,
            recipe.selection_identity,
            recipe.data_seed,
            thinned,
            recipe.view if thinned else None,
        ]
    )[:16]


def _memory(recipe: Recipe, shape: Shape, trained: int | None, counts: Counts, trains: Traffic) -> Memory:
    execution = recipe.execution
    step = trains.tokens / max(1, counts.steps)
    samples = bool(set(SAMPLERS) & set(recipe.scoring.scorers))
    adapter = recipe.adapter
    return memory(
        shape,
        precision=recipe.precision,
        microbatch_tokens=min(execution.microbatch_tokens, max(step / execution.devices, 1.0)),
        devices=execution.devices,
        sharded=execution.strategy == "fsdp",
        adapter=trained,
        weight_bytes=0.5 if adapter is not None and adapter.kind == "qlora" else None,
        checkpointing=recipe.execution.gradient_checkpointing,
        evaluated_models=2 if samples else 1,
        kept_bytes=_kept_bytes(recipe, shape, counts) if samples else 0.0,
    )


def _kept_bytes(recipe: Recipe, shape: Shape, counts: Counts) -> float:
    """Keys and values of the texts that are written at the same time."""
    per_token = 2 * shape.layers * shape.key * WEIGHT_BYTES[recipe.precision]
    return min(_KEPT_BYTES, _NUM_TEXTS * (counts.prompt + recipe.scoring.max_new_tokens) * per_token)


def _adapter(recipe: Recipe, shape: Shape) -> int | None:
    """Weights that are trained beside frozen ones; None where everything is."""
    section = recipe.adapter
    return None if section is None else adapter_parameters(shape, section.rank, section.targets)


def _shape(recipe: Recipe) -> Shape:
    """The shape of the recipe's model: of its folder, of its architecture, or as published."""
    model = recipe.model
    if model.architecture is not None:
        values = model.architecture.model_dump()
        heads = values["num_attention_heads"]
        return shape_of(
            LlamaConfig(vocab_size=len(Materials(recipe).tokenizer), num_key_value_heads=heads, **values)
        )
    return _shape_at(str(model.path), is_here=not recipe.content["model"].startswith(UNFETCHED))


@lru_cache(maxsize=32)
def _shape_at(path: str, *, is_here: bool) -> Shape:
    if is_here:
        return shape_of(AutoConfig.from_pretrained(path))
    values = dict(model_config(path) or {})
    return shape_of(AutoConfig.for_model(values.pop("model_type"), **values))
