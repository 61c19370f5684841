"""Training: one LightningModule around any loss."""

from typing import Literal

Stage = Literal["base", "sft", "align"]
SUMMARY = "training.json"  # in the folder of a trained model: how its training went
CURVES = "curves.parquet"
ADAPTER = "adapter"  # folder therein: what was trained, where that was an adapter
