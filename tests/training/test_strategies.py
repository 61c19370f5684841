"""Which Lightning strategy a recipe means."""

import pytest
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from halobench.sections import Execution
from halobench.training.strategies import make_strategy


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_one_device_needs_no_strategy(strategy):
    assert make_strategy(Execution(strategy=strategy)) == "auto"


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_more_devices_replicate(strategy):
    assert isinstance(make_strategy(Execution(devices=2, strategy=strategy)), DDPStrategy)


@pytest.mark.parametrize("devices", [1, 4])
def test_fsdp_shards_over_all_devices(devices):
    strategy = make_strategy(Execution(devices=devices, strategy="fsdp"))
    assert isinstance(strategy, ModelParallelStrategy)
    # Lightning's defaults would shard over nodes only, that is not at all
    assert (strategy._data_parallel_size, strategy._tensor_parallel_size) == (devices, 1)
