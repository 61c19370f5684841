"""How one run is spread over processes: alone, replicated (ddp) or sharded (fsdp)."""

from __future__ import annotations

from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from halobench.models.logprobs import ScoredModel
from halobench.sections import Execution


def make_strategy(execution: Execution) -> Strategy | str:
    """Return the Lightning strategy that the recipe means.

    fsdp is FSDP2: Lightning's own "fsdp" is FSDP1, which refuses CPU and cannot clip by norm. Both sizes are
    given, because by default it would shard over nodes and not within one.
    """
    if execution.strategy == "fsdp":
        return ModelParallelStrategy(data_parallel_size=execution.devices, tensor_parallel_size=1)
    if execution.devices > 1:
        return DDPStrategy()
    return "auto"


def shard(scored: ScoredModel, mesh: DeviceMesh) -> None:
    """Shard each decoder layer, then the rest with the head: weights are gathered a layer at a time."""
    layers = set(scored.model._no_split_modules or ())
    for module in scored.model.modules():
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(scored, mesh=mesh)
