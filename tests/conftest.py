"""What tests share: a home of their own, one thread, a tiny recipe, real data where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

# the same examples in every run, and no failure because the machine is busy
settings.register_profile(
    "halobench", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("halobench")

TINY = """
extends: [{base}]
data: {{num_pairs: 24}}
base: {{num_documents: 64, steps: 6, batch_documents: 8}}
sft: {{batch_pairs: 8}}
budget: {{batch_pairs: 8}}
optim: {{lr: 1.0e-3}}
scoring: {{scorers: [oracle], num_prompts: 6, samples_per_prompt: 2, temperatures: [1.0, 0.0]}}
execution: {{checkpoint_every: 2}}
matrix:
  loss: [dpo, kto]
  seed: [0, 1, 2]
controls:
  reference: {{evaluate: reference}}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of artifacts for this test alone."""
    folder = tmp_path / "home"
    monkeypatch.setenv("HALOBENCH_HOME", str(folder))
    return folder


def write_tiny_recipe(folder: Path) -> Path:
    """Write a recipe of the built-in world that runs in seconds."""
    from halobench.recipe_file import recipes_folder

    file = folder / "tiny.yaml"
    file.write_text(TINY.format(base=recipes_folder() / "base" / "cafe.yaml"))
    return file


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    """A recipe of the built-in world that runs in seconds."""
    return write_tiny_recipe(tmp_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data samples; tests that need it skip where it is not."""
    folder = Path(os.environ.get("HALOBENCH_SHARED_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; name its folder with HALOBENCH_SHARED_DATA")
    return folder.resolve()
