"""The verb that looks ahead: which runs a recipe means, and what they take."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from halobench.cli.runs import seconds_text
from halobench.compose import compose
from halobench.errors import RecipeError
from halobench.published.sizes import assumptions, fetch_nothing, unfetched
from halobench.registry import did_you_mean
from halobench.results.store import Store

if TYPE_CHECKING:
    from halobench.cost import Device, Memory
    from halobench.estimate import Cost
    from halobench.recipe import Recipe


class Stated(NamedTuple):
    """The device that a user plans for.

    Attributes:
        name: of the device.
        device: its data sheet.
        share: of its peak that is assumed to be reached.
    """

    name: str
    device: Device
    share: float

    def hours(self, flops: float, recipe: Recipe) -> float:
        """GPU-hours."""
        from halobench.cost import gpu_hours

        return gpu_hours(flops, self.device, recipe.precision, self.share)


class Planned(NamedTuple):
    """One run of the plan.

    Attributes:
        recipe: the run.
        cost: what it takes.
        seconds: that a run like it took, or None.
        is_missing: whether it has still to be done.
    """

    recipe: Recipe
    cost: Cost
    seconds: float | None
    is_missing: bool

    def row(self, stated: Stated | None) -> dict[str, Any]:
        """The run, for programs."""
        row = {
            # the digest is of contents, and they are not here
            "run_id": None if unfetched(self.recipe) else self.recipe.run_id,
            "row": self.recipe.label,
            "seed": self.recipe.seed,
            "state": "missing" if self.is_missing else "done",
            "tokens": self.cost.tokens,
            "flops": self.cost.flops,
            "memory_bytes": self.cost.memory.most,
            "seconds": self.seconds,
        }
        return row if stated is None else {**row, "gpu_hours": stated.hours(self.cost.flops, self.recipe)}


def plan(arguments: argparse.Namespace) -> int:
    """Print the runs of a recipe: done or missing, shared stages, what they will take."""
    fetch_nothing()
    from halobench.grid import estimates, missing_tasks

    stated = _stated(arguments.device, arguments.mfu)
    suite = compose(arguments.recipe, arguments.overrides, arguments.plugin, planned=True)
    store = Store(arguments.results)
    tasks = missing_tasks(suite.recipes, store)
    missing = {task.name for task in tasks if task.stage is None}
    costs = estimates(suite.recipes, store)
    # points that differ in what their loss does not use are one run
    distinct = {recipe.run_id: recipe for recipe in suite.recipes}
    runs = [Planned(recipe, *costs[name], name in missing) for name, recipe in distinct.items()]
    rows = [run.row(stated) for run in runs]
    stages = [task.name for task in tasks if task.stage is not None]
    todo = [run for run in runs if run.is_missing]
    total = _total(todo, stated)
    notes = _notes(runs, len(suite.recipes)) + list(suite.notes) + _misfits(runs, stated)
    if arguments.json:
        document = {
            "suite": suite.name,
            "points": len(suite.recipes),
            "runs": rows,
            "missing_stages": stages,
            "missing": total,
            "notes": notes,
        }
        print(json.dumps(document, indent=2))
        return 0
    _print_rows(rows)
    print(
        f"\n{suite.name}: {len(rows)} runs, {len(rows) - len(todo)} done, {len(todo)} missing; "
        f"shared stages to make: {', '.join(stages) or 'none'}"
    )
    if todo:
        known = [run.seconds for run in todo if run.seconds is not None]
        unknown = "unknown until a run like it is recorded"
        print(
            f"missing: about {_count(total['tokens'])} tokens, and {total['flops']:.1e} FLOPs with what runs "
            f"share; worker time {seconds_text(sum(known)) if len(known) == len(todo) else unknown}"
        )
    if todo and stated is not None:
        print(
            f"on {stated.name}, at {stated.share:.0%} of its peak (assumed): "
            f"{_hours(total['gpu_hours'])} GPU-hours"
        )
    for note in notes:
        print(f"note: {note}")
    return 0


def _stated(name: str | None, share: float) -> Stated | None:
    from halobench.cost import DEVICES

    if not 0 < share <= 1:
        raise RecipeError(f"--mfu = {share:g}: must be in (0, 1], the share of the device's peak")
    if name is None:
        return None
    if name not in DEVICES:
        raise RecipeError(
            f"--device = {name!r}: no such device is known{did_you_mean(name, DEVICES)}; "
            f"known: {', '.join(DEVICES)}"
        )
    return Stated(name, DEVICES[name], share)


def _total(todo: Iterable[Planned], stated: Stated | None) -> Mapping[str, float]:
    """Sum up the missing runs, and once what several of them need."""
    total = {"tokens": 0.0, "flops": 0.0} | ({} if stated is None else {"gpu_hours": 0.0})
    shared: dict[str, float] = {}
    for run in todo:
        spent = run.cost.flops + sum(flops for name, flops in run.cost.shared.items() if name not in shared)
        shared |= run.cost.shared
        total["tokens"] += run.cost.tokens
        total["flops"] += spent
        if stated is not None:
            total["gpu_hours"] += stated.hours(spent, run.recipe)
    return total


def _notes(runs: Sequence[Planned], num_points: int) -> list[str]:
    notes = []
    if len(runs) < num_points:
        notes.append(
            f"{num_points} points are {len(runs)} runs; the others differ in what their loss does not use"
        )
    if away := sorted({name for run in runs for name in unfetched(run.recipe)}):
        notes.append(f"planned from published sizes; nothing was fetched: {', '.join(away)}")
    if assumed := sorted({key for run in runs for key in assumptions(run.recipe)}):
        notes.append(f"assumed, because nothing is published: {', '.join(assumed)}")
    return notes


def _misfits(runs: Iterable[Planned], stated: Stated | None) -> list[str]:
    """Say what does not fit the device, and what helps."""
    if stated is None:
        return []
    lines = []
    for recipe, cost, _, _ in runs:
        room = f"more than {stated.name} has room for ({stated.device.memory / 1e9:.0f} GB)"
        if not stated.device.has_room(cost.memory.training):
            lines.append(
                f"training takes {cost.memory.training / 1e9:.0f} GB on each device, {room}: "
                f"{', or '.join(_remedies(recipe, cost.memory))}"
            )
        if not stated.device.has_room(cost.memory.evaluation):
            lines.append(
                "the reference's pass and scoring, which one device does, take "
                f"{cost.memory.evaluation / 1e9:.0f} GB, {room}: take a larger device"
                f"{'' if recipe.precision == 'bf16-true' else ', or precision=bf16-true'}"
            )
    return list(dict.fromkeys(lines))


def _remedies(recipe: Recipe, needed: Memory) -> list[str]:
    execution = recipe.execution
    remedies = ["more execution.devices" + ("" if execution.strategy == "fsdp" else " with strategy=fsdp")]
    if not execution.gradient_checkpointing:
        remedies.append("execution.gradient_checkpointing=true")
    if needed.activations > needed.training / 10:
        remedies.append("a smaller execution.microbatch_tokens")
    if recipe.adapter is None:
        remedies.append("adapter.kind=lora")
    return remedies


def _print_rows(rows: Sequence[dict[str, Any]]) -> None:
    names = [row["run_id"] or "(not fetched)" for row in rows]
    width = max(map(len, names))
    label = max(14, *(len(row["row"]) for row in rows))
    last = "GPU-hours" if "gpu_hours" in rows[0] else "time"
    columns = f"{'state':8} {'tokens':>9} {'FLOPs':>8} {'memory':>8} {last:>9}"
    print(f"{'run':{width}}  {'row':{label}} {'seed':>4}  {columns}")
    for name, row in zip(names, rows, strict=True):
        time = _hours(row["gpu_hours"]) if "gpu_hours" in row else seconds_text(row["seconds"])
        print(
            f"{name:{width}}  {row['row']:{label}} {row['seed']:4}  {row['state']:8} "
            f"{_count(row['tokens']):>9} {row['flops']:8.1e} {row['memory_bytes'] / 1e9:5.1f} GB {time:>9}"
        )


def _count(number: float) -> str:
    if number >= 1e9:
        return f"{number / 1e9:.1f}B"
    return f"{number / 1e6:.1f}M" if number >= 1e5 else f"{number / 1e3:.1f}k"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
