"""Whole training stages on a recipe of the built-in world, from a random tiny Llama as the reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

from halobench.compose import compose
from halobench.materials import Materials
from halobench.models.load import new_model, save_model
from halobench.recipe import Recipe
from halobench.sections import Architecture, Model
from halobench.training.stage import train_stage

WIDTH_16 = Architecture(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=128,
)


def recipe_of(file: Path, loss: str, *overrides: str) -> Recipe:
    """The one run of the tiny recipe with this loss: 24 pairs in steps of 8, checkpoints every 2 steps."""
    return compose(file, ["seed=0", f"loss.name={loss}", *overrides]).recipes[0]


def make_reference(recipe: Recipe, folder: Path) -> Path:
    """A random model of the world's language, as a folder; its predictions are far from uniform."""
    tokenizer = Materials(recipe).tokenizer
    model = new_model(Model(architecture=WIDTH_16), tokenizer, seed=0)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20)
    save_model(folder, model, tokenizer)
    return folder


def align(
    recipe: Recipe,
    start: Path,
    output: Path,
    report: Callable[[str, int, int], None] = lambda phase, done, total: None,
    name: str | None = None,
    reference: Path | None = None,
) -> Path:
    """Train the alignment stage into `output`."""
    output.mkdir(parents=True, exist_ok=True)
    name = name or recipe.run_id
    train_stage(Materials(recipe), "align", name, start, output, report, reference=reference)
    return output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Tensors of a model folder."""
    return load_file(folder / "model.safetensors")


def summary(folder: Path) -> dict[str, Any]:
    """What the stage says of itself."""
    return json.loads((folder / "training.json").read_text())


def curves(folder: Path) -> pd.DataFrame:
    """Its training curves."""
    return pd.read_parquet(folder / "curves.parquet")
