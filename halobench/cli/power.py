"""The verb that plans an experiment: power."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from halobench.errors import ResultsError, UnknownNameError
from halobench.registry import did_you_mean
from halobench.results.store import Store

if TYPE_CHECKING:
    from halobench.leaderboard.contrasts import Comparison
    from halobench.leaderboard.cube import Setting
    from halobench.leaderboard.noise import Noise

SEEDS = (3, 5, 10, 20)
PROMPTS = (200, 500, 1000, 2000)
DIFFERENCE = 0.02


def at_least_two(text: str) -> int:
    """Read a number of seeds or prompts."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, at least 2")
    return int(text)


def not_negative(text: str) -> float:
    """Read a difference or a standard deviation, in units of the metric."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number that is not negative, for example 0.02")
    return value


def power(arguments: argparse.Namespace) -> int:
    """Print what differences can be found, from recorded or from stated noise."""
    if arguments.sd is not None:
        from halobench.leaderboard.noise import Noise

        found = [{"noise": "as stated", **_plan(Noise(*arguments.sd), arguments, DIFFERENCE)}]
    else:
        found = [_recorded(*board, arguments) for board in _boards(arguments)]
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    print("\n\n".join(_text(facts) for facts in found))
    return 0


def _boards(arguments: argparse.Namespace) -> list[tuple[Setting, list[Comparison]]]:
    """The boards of that suite or setting, or all, with the pairs of losses at the primary decode."""
    from halobench.leaderboard.contrasts import compare, decodes
    from halobench.leaderboard.cube import load_settings

    settings = load_settings(Store(arguments.results))
    name = arguments.suite
    if name is not None and not any(name in (s.suite, s.setting_id) for s in settings):
        known = list(dict.fromkeys(setting.suite for setting in settings))
        listed = did_you_mean(name, known) or f"; known there: {', '.join(known) or 'none'}"
        raise UnknownNameError(f"{name!r}: no suite or setting in {arguments.results} has that name{listed}")
    found = []
    for setting in settings:
        if name in (None, setting.suite, setting.setting_id):
            pairs = [c for c in compare(setting) if (c.family, c.decode) == ("losses", decodes(setting)[0])]
            if pairs:
                found.append((setting, pairs))
    if not found:
        raise ResultsError(
            f"{name or arguments.results}: no two losses with enough seeds to measure the noise; run more "
            "seeds, or state it with --sd SEEDS PROMPTS REST"
        )
    return found


def _recorded(setting: Setting, pairs: list[Comparison], arguments: argparse.Namespace) -> dict[str, Any]:
    from halobench.leaderboard.noise import Noise

    rows = []
    for pair in pairs:
        noise, size = Noise.of([pair.estimate]), (pair.estimate.num_seeds, pair.estimate.num_prompts)
        rows.append(
            {
                "pair": f"{pair.first} - {pair.second}",
                "num_seeds": size[0],
                "num_prompts": size[1],
                "seed_sd": noise.seed_sd,
                "prompt_sd": noise.prompt_sd,
                "residual_sd": noise.residual_sd,
                "share": noise.shares(*size)._asdict(),
                "detectable": pair.estimate.detectable,
                "more_of": noise.more_of(*size),
            }
        )
    pooled = Noise.of([pair.estimate for pair in pairs])
    return {
        "noise": "recorded, pooled over pairs",
        "suite": setting.suite,
        "setting": setting.setting_id,
        "metric": setting.board.metric,
        "pairs": rows,
        **_plan(pooled, arguments, setting.board.margin),
    }


def _plan(noise: Noise, arguments: argparse.Namespace, margin: float) -> dict[str, Any]:
    """What so much noise leaves detectable."""
    from halobench.leaderboard.power import fewest_seeds
    from halobench.leaderboard.power import power as chance

    difference = margin if arguments.difference is None else arguments.difference
    return {
        "seed_sd": noise.seed_sd,
        "prompt_sd": noise.prompt_sd,
        "residual_sd": noise.residual_sd,
        "difference": difference,
        "designs": [
            {
                "num_seeds": seeds,
                "num_prompts": prompts,
                "detectable": noise.estimate(0.0, seeds, prompts).detectable,
                "power": chance(noise, difference, seeds, prompts),
            }
            for seeds in arguments.seeds
            for prompts in arguments.prompts
        ],
        "fewest_seeds": {
            str(prompts): fewest_seeds(noise, difference, prompts) for prompts in arguments.prompts
        },
    }


def _text(facts: dict[str, Any]) -> str:
    lines = []
    if "pairs" in facts:
        pairs = facts["pairs"]
        width = max(len("pair"), *(len(row["pair"]) for row in pairs))
        lines += [f"{facts['suite']}, setting {facts['setting']}: {facts['metric']}, losses in pairs", ""]
        lines += [f"{'pair':{width}}   size       seeds  prompts  rest   detectable  twice as many"]
        lines += [_pair_line(row, width) for row in pairs]
        lines += ["", "seeds, prompts, rest: what each explains of the variance of the difference.", ""]
    sds = " ".join(f"{facts[key]:.4f}" for key in ("seed_sd", "prompt_sd", "residual_sd"))
    lines += [
        f"standard deviations of a paired difference, {facts['noise']}:",
        f"  seeds prompts rest = {sds}",
    ]
    prompts = list(facts["fewest_seeds"])
    columns = "".join(f"{'P=' + count:>8}" for count in prompts)
    difference = facts["difference"]
    for title, key in (
        ("smallest difference found with a power of 80%, by seeds and prompts P", "detectable"),
        (f"power to find a difference of {difference:g}", "power"),
    ):
        lines += ["", f"{title}:", f"  seeds {columns}"]
        for seeds in dict.fromkeys(design["num_seeds"] for design in facts["designs"]):
            values = [design[key] for design in facts["designs"] if design["num_seeds"] == seeds]
            lines.append(f"{seeds:7} " + "".join(f"{value:8.3f}" for value in values))
    fewest = [facts["fewest_seeds"][count] for count in prompts]
    lines += ["", f"fewest seeds that find {difference:g} with a power of 80%:"]
    lines += [" " * 8 + columns, " " * 8 + "".join(f"{_count(seeds):>8}" for seeds in fewest)]
    return "\n".join(lines)


def _pair_line(row: dict[str, Any], width: int) -> str:
    size = f"{row['num_seeds']}x{row['num_prompts']}"
    share = row["share"]
    parts = f"{share['seeds']:5.0%}  {share['prompts']:7.0%}  {share['rest']:4.0%}"
    return f"{row['pair']:{width}}   {size:9}  {parts}   {row['detectable']:10.4f}  {row['more_of']}"


def _count(seeds: int | None) -> str:
    return ">1000" if seeds is None else str(seeds)
