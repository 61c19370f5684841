"""Two processes, sharded or replicated, train the model that one trains; a killed sharded run goes on."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from halobench.training.data import StageData
from tests.conftest import TINY
from tests.training.stages import align, curves, make_reference, recipe_of, weights

CHECKOUT = Path(__file__).parents[2]
CLIP = 1e-8
COMMON = (
    "budget.batch_pairs=5",  # three units on one rank, two on the other; at the end two and two
    "execution.microbatch_tokens=100",  # about one unit each
    f"optim.clip={CLIP}",  # as small as Adam's epsilon, so that updates depend on it
    "optim.lr=0.1",
)
JOBS = {
    f"{strategy}-{loss}-{bits}": (loss, strategy, bits)
    for strategy, loss, bits in [
        ("fsdp", "dpo", 64),
        ("fsdp", "kto", 64),
        ("fsdp", "offline_ppo", 64),
        ("fsdp", "dpo", 32),
        ("fsdp", "kto", 32),
        ("ddp", "dpo", 64),
        ("ddp", "kto", 64),
        ("fsdp", "csft+lora", 64),
        ("ddp", "csft+lora", 64),
    ]
}
LORA = "adapter={kind: lora, rank: 2, alpha: 4}"


@dataclass(frozen=True)
class Launched:
    """Where the jobs were trained, and what the launches said."""

    folder: Path
    start: Path
    recipes: Path
    first: subprocess.CompletedProcess[str]
    checkpoints: list[Path]
    second: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Every job, a sharded run, and one that is killed after step 3; then, in a second launch, its rest."""
    folder = tmp_path_factory.mktemp("launched")
    recipes = folder / "tiny.yaml"
    recipes.write_text(TINY.format(base=CHECKOUT / "recipes" / "base" / "cafe.yaml"))
    start = make_reference(recipe_of(recipes, "dpo"), folder / "start")

    def job(name, loss, strategy, bits, kill_after=None):
        (folder / name).mkdir()
        settings = ("execution.devices=2", f"execution.strategy={strategy}", f"precision={bits}-true")
        return {
            "recipe": run_of(recipes, loss, *settings).model_dump(mode="json"),
            "name": name,
            "start": str(start),
            "output": str(folder / name),
            "kill_after": kill_after,
        }

    jobs = [job(name, *settings) for name, settings in JOBS.items()]
    killed = job("killed", "kto", "fsdp", 32, kill_after=3)
    first = launch(folder, [*jobs, killed])
    checkpoints = [path for path in (folder / "home" / "checkpoints").glob("*/*") if path.is_dir()]
    second = launch(folder, [killed | {"kill_after": None}])
    return Launched(folder, start, recipes, first, checkpoints, second)


def run_of(recipes, loss, *settings):
    """The run of a loss, whose name says whether an adapter is trained."""
    name, _, adapter = loss.partition("+")
    return recipe_of(recipes, name, *COMMON, *([LORA] if adapter else []), *settings)


def launch(folder, jobs):
    """Train jobs in two processes; return how they ended."""
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [sys.executable, "-m", *command, str(Path(__file__).with_name("ranks.py")), str(file)],
        env=os.environ | {"HALOBENCH_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def shares(monkeypatch):
    """The shares of two ranks in every step that one process takes."""
    found = []
    original = StageData.step

    def step(self, index, **ranks):
        found.append([original(self, index, rank=rank, num_ranks=2).microbatches for rank in (0, 1)])
        return original(self, index, **ranks)

    monkeypatch.setattr(StageData, "step", step)
    return found


def disagreements(folder, single, start, bits):
    """Yield what differs between the model of two processes and that of one."""
    found, expected, begin = weights(folder), weights(single), weights(start)
    if found.keys() != expected.keys():
        yield f"writes other tensors: {sorted(found.keys() ^ expected.keys())}"
    moved = largest_difference(expected, begin)
    assert moved > 1e-3
    limit = 1e-10 if bits == 64 else 0.01 * moved
    difference = largest_difference(found, expected)
    if not difference <= limit:
        yield f"weights differ by {difference:.3g}, more than {limit:.3g}"
    for (step, metric, one), (*_, two) in zip(values(single), values(folder), strict=True):
        if two != pytest.approx(one, rel=1e-9 if bits == 64 else 1e-2, abs=1e-9 if bits == 64 else 1e-4):
            yield f"{metric} of step {step} is {two}, not {one}"


def largest_difference(one, other):
    return max((one[name].double() - other[name].double()).abs().max().item() for name in other)


def values(folder):
    return curves(folder)[["step", "metric", "value"]].itertuples(index=False, name=None)


def test_two_processes_train_the_model_that_one_trains(launched, tmp_path, shares):
    unfinished = [name for name in JOBS if not (launched.folder / name / "training.json").exists()]
    assert unfinished == [], launched.first.stderr[-6000:]

    for loss, bits in {(loss, bits) for loss, _, bits in JOBS.values()}:
        recipe = run_of(launched.recipes, loss, f"precision={bits}-true")
        single = align(recipe, launched.start, tmp_path / f"{loss}-{bits}")
        # what is to be shown really happens: five steps, clipped, in several microbatches, some of them empty
        norms = curves(single).query("metric == 'grad_norm'")["value"]
        assert len(norms) == 5
        assert (norms > 1000 * CLIP).all()
    assert all(len(share) >= 2 for ranks in shares for share in ranks)
    parts = [part.rows for ranks in shares for share in ranks for part in share]
    assert any((rows.completion_lengths == 0).all() for rows in parts)

    wrong = {}
    for name, (loss, _, bits) in JOBS.items():
        pair = launched.folder / name, tmp_path / f"{loss}-{bits}"
        wrong[name] = [*disagreements(*pair, launched.start, bits)]
    assert wrong == {name: [] for name in JOBS}


def test_a_sharded_run_that_was_killed_goes_on_to_the_same_bytes(launched):
    assert launched.first.returncode != 0
    (checkpoint,) = launched.checkpoints
    assert checkpoint.parent.name == "killed"  # a folder, of step 2
    assert launched.second.returncode == 0, launched.second.stderr[-6000:]
    told = [line for line in launched.second.stdout.splitlines() if line.startswith("killed align")]
    assert told == ["killed align 3", "killed align 4", "killed align 5"]
    killed, whole = launched.folder / "killed", launched.folder / "fsdp-kto-32"
    for file in ("model.safetensors", "curves.parquet"):
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), file
    assert list((launched.folder / "home" / "checkpoints").iterdir()) == []
