"""What came out: a record per setting, a table, and a figure of all records in a folder."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import matplotlib
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from scipy.stats import t as student

from halobench.bench.contestants import BARE
from halobench.bench.rounds import ENVIRONMENT, NUM_COMPARED, NUM_WARMUP, Outcome
from halobench.bench.workload import make_work
from halobench.leaderboard.figures.style import STYLE
from halobench.storage import atomic_file, canonical_json, write_text

FIGURE = "throughput.svg"
_PACKAGES = ("halobench", "torch", "lightning", "transformers", "trl", "accelerate")
_STYLES = {
    "halobench": ("#0173b2", "o"),
    "halobench-reference": ("#00785a", "^"),
    "trl-best": ("#d55e00", "s"),
    "trl-default": ("#a36a00", "D"),
}
_OURS = "halobench"


def make_record(outcome: Outcome) -> dict[str, Any]:
    """Turn laps into a record: medians and ranges over the rounds, and every lap.

    Against another contestant halobench's times are compared round by round, because the rounds differ in
    their tokens and in what else the machine does.
    """
    setting, shape = outcome.setting, outcome.setting.shape
    steps = make_work(setting)
    tokens = [work.num_tokens for work in steps][NUM_WARMUP:]
    flops = [work.minimal_flops(shape) for work in steps][NUM_WARMUP:]
    rate = median(outcome.gemm_rates)
    seconds = {name: [lap.seconds for lap in laps][NUM_WARMUP:] for name, laps in outcome.laps.items()}
    contestants = {}
    for name, laps in outcome.laps.items():
        contestants[name] = {
            "laps": [lap._asdict() for lap in laps],
            "peak_bytes": laps[-1].peak_bytes,
            "tokens_per_second": spread(
                [count / each for count, each in zip(tokens, seconds[name], strict=True)]
            ),
            "share_of_gemm_rate": spread(
                [count / each / rate for count, each in zip(flops, seconds[name], strict=True)]
            ),
            "times_as_long_as_halobench": ratios(seconds[name], seconds[_OURS]) if _OURS in seconds else None,
        }
    return {
        "setting": asdict(setting),
        "shape": asdict(shape)
        | {"body_weights": shape.num_body_weights, "head_weights": shape.num_head_weights},
        "steps": [{"tokens": work.num_tokens, "minimal_flops": work.minimal_flops(shape)} for work in steps],
        "warmup_steps": NUM_WARMUP,
        "compared_steps": NUM_COMPARED,
        "clock": "CPU time" if setting.device == "cpu" else "wall time",
        "gemm_flops_per_second": spread(outcome.gemm_rates),
        "contestants": contestants,
        "environment": ENVIRONMENT,
        **about_the_machine(setting.device),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def ratios(seconds: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """Ratios round by round, with a 95% interval of their geometric mean (Student's t on logarithms)."""
    ratios = [other / own for other, own in zip(seconds, ours, strict=True)]
    logs = [math.log(ratio) for ratio in ratios]
    interval = None
    if len(logs) > 1:
        half = float(student.ppf(0.975, len(logs) - 1)) * stdev(logs) / math.sqrt(len(logs))
        interval = [math.exp(mean(logs) - half), math.exp(mean(logs) + half)]
    return {**spread(ratios), "interval": interval}


def trainer_overhead(record: dict[str, Any]) -> list[float] | None:
    """What the Trainer's loop adds to a step of the bare loop, as a share: 95% interval, or None."""
    bare = record["contestants"].get(BARE, {}).get("times_as_long_as_halobench")
    if bare is None or bare["interval"] is None:
        return None
    low, high = bare["interval"]
    return [1 / high - 1, 1 / low - 1]


def about_the_machine(device: str) -> dict[str, Any]:
    """Hardware and versions, for a record."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
    return {"hardware": _hardware(device), "versions": versions}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def _hardware(device: str) -> dict[str, Any]:
    """The processor, its cores and memory, and the accelerator if it was used."""
    facts: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count(), "system": platform.system()}
    facts["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts["accelerator"] = torch.cuda.get_device_name() if device == "cuda" else None
    return facts


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if sys.platform == "linux" and (found := re.search(r"model name\s*:\s*(.+)", file.read_text())):
        return found[1]
    return platform.processor()


def record_path(folder: Path, record: dict[str, Any]) -> Path:
    """File of a record, named by its setting; the comparison with the bare loop has one of its own."""
    setting = record["setting"]
    suffix = "-overhead" if BARE in record["contestants"] else ""
    return folder / f"{setting['model']}-{setting['precision']}-{setting['loss']}{suffix}.json"


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write the record, and draw the figure of all records in the folder anew."""
    write_text(record_path(folder, record), canonical_json(record))
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    records = [
        record for record in records if "loss" in record["setting"] and BARE not in record["contestants"]
    ]
    if not records:
        return
    with (
        matplotlib.rc_context(STYLE),
        sns.axes_style("whitegrid", {"axes.edgecolor": "#888888"}),
        atomic_file(folder / FIGURE) as path,
    ):
        draw(records).savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")


def render_table(record: dict[str, Any]) -> str:
    """The record as lines of text."""
    setting, rate = record["setting"], record["gemm_flops_per_second"]
    num_rounds = len(record["steps"]) - record["warmup_steps"]
    lines = [
        f"{setting['model']} {setting['precision']} {setting['loss']} on {setting['device']}: {num_rounds} "
        f"rounds, {record['clock']}; matrix products at {rate['median'] / 1e9:.0f} GFLOP/s",
        f"{'':20} {'tokens/s [range]':>24} {'times as long [range]':>24} {'of GEMM rate':>13} {'peak MB':>8}",
    ]
    for name, row in record["contestants"].items():
        ratio = row["times_as_long_as_halobench"]
        cells = [
            _cell(row["tokens_per_second"], ".0f"),
            "-" if ratio is None else _cell(ratio, ".2f"),
            f"{row['share_of_gemm_rate']['median']:.0%}",
            f"{row['peak_bytes'] / 1e6:.0f}",
        ]
        lines.append(f"{name:20} {cells[0]:>24} {cells[1]:>24} {cells[2]:>13} {cells[3]:>8}")
    if overhead := trainer_overhead(record):
        lines.append(f"the Trainer's loop adds {overhead[0]:.1%} to {overhead[1]:.1%} to the bare loop (95%)")
    return "\n".join(lines)


def _cell(spread: dict[str, float], style: str) -> str:
    return f"{spread['median']:{style}} [{spread['low']:{style}}-{spread['high']:{style}}]"


def draw(records: Sequence[dict[str, Any]]) -> Figure:
    """Tokens per second, a line per setting and a marker per contestant, with the range over the rounds."""
    names = [name for name in _STYLES if any(name in record["contestants"] for record in records)]
    labels = [
        f"{record['setting']['model']} {record['setting']['precision']} {record['setting']['loss']}"
        for record in records
    ]
    figure = Figure(figsize=(8.5, 1.6 + 0.42 * len(records)), layout="constrained")
    axes = figure.subplots()
    for name in names:
        colour, marker = _STYLES[name]
        places = [place for place, record in enumerate(records) if name in record["contestants"]]
        spreads = [records[place]["contestants"][name]["tokens_per_second"] for place in places]
        axes.errorbar(
            [spread["median"] for spread in spreads],
            places,
            xerr=[
                [spread["median"] - spread["low"] for spread in spreads],
                [spread["high"] - spread["median"] for spread in spreads],
            ],
            fmt=marker,
            color=colour,
            markersize=6,
            linewidth=1.2,
            label=name,
            zorder=3,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("non-padding tokens per second; median and range over the rounds")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure
