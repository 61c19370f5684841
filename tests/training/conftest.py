"""A reference for the stages under test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.stages import make_reference, recipe_of


@pytest.fixture
def start(tiny_recipe: Path, tmp_path: Path) -> Path:
    """Folder of a random tiny model, the reference and the start of the alignment."""
    return make_reference(recipe_of(tiny_recipe, "dpo"), tmp_path / "start")
