"""Does the engine keep its promises? Boards of known truth: `python -m halobench.leaderboard.simulate`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from halobench.leaderboard.bootstrap import generator
from halobench.leaderboard.clusters import by_group
from halobench.leaderboard.noise import steadied
from halobench.leaderboard.stats import LEVEL, Estimate, anova, holm, rank_intervals
from halobench.leaderboard.unpaired import unpaired

Wins = Float[np.ndarray, "losses seeds prompts"]
_Z = float(stats.norm.ppf((1 + LEVEL) / 2))


@dataclass(frozen=True)
class World:
    """How the wins of losses are drawn; standard deviations are in logits.

    Attributes:
        name: of the cell.
        num_seeds: of each loss.
        num_prompts: the same for all losses.
        seed_sd: luck of a seed, of each loss apart.
        taste_sd: how differently a loss does on the prompts, beyond their common difficulty.
        base_sd: of the base model, drawn anew for each seed: common to the losses, and as much of each apart.
        collapsing: share of the seeds of the first loss that win .2 less than they would.
        group_sizes: in turn, of the groups of prompts that share their difficulty and a loss's taste.
        by_group: whether it is groups that are analysed as drawn.
        other_seeds: whether the losses have no seed in common.
        noise: standard deviations (seed, prompt, rest) of a difference of win rates; () for single wins.
    """

    name: str
    num_seeds: int
    num_prompts: int = 300
    seed_sd: float = 0.15
    taste_sd: float = 0.3
    base_sd: float = 0.0
    collapsing: float = 0.0
    group_sizes: tuple[int, ...] = (1,)
    by_group: bool = False
    other_seeds: bool = False
    noise: tuple[float, ...] = ()

    def draw(self, stream: np.random.Generator, skills: Sequence[float]) -> Wins:
        """Draw the values of losses; skills are in logits, or in win rate with `noise`."""
        losses, seeds, groups = len(skills), self.num_seeds, self.groups
        skill = np.array(skills)[:, None, None]
        collapsed = stream.random((seeds, 1)) < self.collapsing
        if self.noise:  # half of a difference's variance is of either loss
            seed_sd, prompt_sd, residual_sd = (sd / math.sqrt(2) for sd in self.noise)
            luck = stream.normal(0, seed_sd, (losses, seeds, 1))
            taste = stream.normal(0, prompt_sd, (losses, 1, len(groups)))
            values = 0.5 + skill + luck + taste + stream.normal(0, residual_sd, (losses, seeds, len(groups)))
            values[0] -= 0.2 * collapsed
            return np.asarray(values)
        num_groups = groups[-1] + 1
        difficulty = stream.normal(0, 1, num_groups)[groups]
        taste = stream.normal(0, self.taste_sd, (losses, 1, num_groups))[:, :, groups]
        luck = stream.normal(0, self.seed_sd, (losses, seeds, 1))
        luck += stream.normal(0, self.base_sd, (1, seeds, 1))
        luck += stream.normal(0, self.base_sd, (losses, seeds, 1))
        chance = 1 / (1 + np.exp(-(skill + difficulty + taste + luck)))
        # a chance is .5 on average, so 40% less of it is .2 less
        chance[0] *= 1 - 0.4 * collapsed
        return np.asarray((stream.random(chance.shape) < chance).astype(float))

    def estimate(
        self, first: Float[np.ndarray, "seeds prompts"], second: Float[np.ndarray, "seeds prompts"]
    ) -> Estimate:
        """Estimate the difference of two losses as a board does."""
        groups = self.groups if self.by_group else range(self.num_prompts)
        a, b = by_group(first, groups), by_group(second, groups)
        return unpaired(a, b) if self.other_seeds else anova(a - b)

    @cached_property
    def groups(self) -> list[int]:
        """Group of each prompt, from 0 on."""
        sizes = np.resize(self.group_sizes, self.num_prompts)
        return [int(group) for group in np.repeat(np.arange(self.num_prompts), sizes)[: self.num_prompts]]

    @property
    def difference(self) -> float:
        """True difference of two equally skilled losses, the first of which may collapse."""
        return -0.2 * self.collapsing


# the noise that the first quickstart showed (`halobench power quickstart`), and its number of prompts
RECORDED = World("noise of the quickstart", 5, num_prompts=512, noise=(0.0113, 0.0619, 0.1310))
CLUSTERED = World(
    "clustered prompts, by group", 5, seed_sd=0.1, taste_sd=1.0, group_sizes=(1, 2, 3, 6), by_group=True
)
# the cells of single comparisons: three numbers of seeds and of lucks, and what else may vary
COVERAGE = (
    *(World("seeds", seeds, seed_sd=sd) for seeds in (3, 5, 10) for sd in (0.0, 0.1, 0.25)),
    *(World("random base", seeds, base_sd=0.1) for seeds in (3, 5, 10)),
    *(World("other seeds", seeds, other_seeds=True) for seeds in (3, 5, 10)),
    *(replace(CLUSTERED, num_seeds=seeds) for seeds in (3, 5, 10)),
    *(
        replace(CLUSTERED, name="clustered prompts, as if single", num_seeds=s, by_group=False)
        for s in (3, 5, 10)
    ),
    *(replace(RECORDED, num_seeds=seeds) for seeds in (3, 5, 10)),
    *(World("collapse", seeds, collapsing=0.15) for seeds in (5, 10, 20)),
    *(
        replace(RECORDED, name="collapse, noise of the quickstart", num_seeds=seeds, collapsing=0.15)
        for seeds in (5, 10, 20)
    ),
)
# boards of six losses: the skills of each, and how their wins are drawn
FAMILIES = (
    *(("null", (0.0,) * 6, World("single wins", seeds)) for seeds in (3, 5, 10)),
    *(("two groups of three", (0.0, 0.0, 0.0, 0.3, 0.3, 0.3), World("single wins", s)) for s in (3, 5, 10)),
    *(("one better", (0.0,) * 5 + (0.3,), World("single wins", seeds)) for seeds in (3, 5, 10)),
    *(("even steps", (0.0, 0.3, 0.6, 0.9, 1.2, 1.5), World("single wins", seeds)) for seeds in (3, 5, 10)),
    *(("null", (0.0,) * 6, replace(RECORDED, num_seeds=seeds)) for seeds in (5, 10)),
    *(
        ("two groups, .03 apart", (0.0, 0.0, 0.0, 0.03, 0.03, 0.03), replace(RECORDED, num_seeds=seeds))
        for seeds in (5, 10)
    ),
)


def coverage(world: World, replicates: int) -> dict[str, object]:
    """Measure how often the 95% interval of a paired difference holds the truth, and how wide it is.

    width = mean width / (2 * 1.96 * standard deviation of the estimates), what an interval that knows the
    variances would have; `stderr` is the error of the simulation itself.
    """
    stream = generator(f"coverage/{world}")
    means, widths, covered = [], [], 0
    for _ in range(replicates):
        first, second = world.draw(stream, (0.0, 0.0))
        estimate = world.estimate(first, second)
        low, high = estimate.interval()
        covered += low <= world.difference <= high
        means.append(estimate.mean)
        widths.append(high - low)
    share = covered / replicates
    return {
        "cell": world.name,
        "seeds": world.num_seeds,
        "prompts": world.num_prompts,
        "seed_sd": math.nan if world.noise else world.seed_sd,
        "taste_sd": math.nan if world.noise else world.taste_sd,
        "replicates": replicates,
        "coverage": share,
        "stderr": math.sqrt(share * (1 - share) / replicates),
        "width": float(np.mean(widths) / (2 * _Z * np.std(means))),
    }


def family(name: str, skills: Sequence[float], world: World, boards: int) -> dict[str, object]:
    """Measure how often a board claims any wrong direction, and how many of the true differences it finds.

    Wrong is a claim of either direction between equal losses, or of the worse one as better.
    """
    stream = generator(f"family/{name}/{world}")
    names = [str(index) for index in range(len(skills))]
    pairs = list(combinations(range(len(skills)), 2))
    true = [np.sign(skills[a] - skills[b]) for a, b in pairs]
    wrong = found = ranked = 0
    for _ in range(boards):
        wins = world.draw(stream, skills)
        estimates = [world.estimate(wins[a], wins[b]) for a, b in pairs]
        claims = [
            np.sign(estimate.mean) if entry.separated else 0
            for estimate, entry in zip(estimates, holm(steadied(estimates)), strict=True)
        ]
        wrong += any(claim not in (0, sign) for claim, sign in zip(claims, true, strict=True))
        found += sum(claim == sign != 0 for claim, sign in zip(claims, true, strict=True))
        ranks = rank_intervals(
            names, {(names[a], names[b]): claim for (a, b), claim in zip(pairs, claims, strict=True) if claim}
        )
        ranked += all(
            low <= 1 + sum(other > skill for other in skills)
            and high >= len(skills) - sum(other < skill for other in skills)
            for skill, (low, high) in zip(skills, ranks.values(), strict=True)
        )
    different = sum(sign != 0 for sign in true)
    return {
        "board": name,
        "wins": world.name,
        "seeds": world.num_seeds,
        "prompts": world.num_prompts,
        "boards": boards,
        "wrong": wrong / boards,
        "stderr": math.sqrt(wrong / boards * (1 - wrong / boards) / boards),
        "ranks_hold": ranked / boards,
        "found": found / (different * boards) if different else math.nan,
    }


def study(replicates: int, boards: int, say: Callable[[str], object]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Measure every cell; yields the names and tables of the files."""
    rows = []
    for world in COVERAGE:
        rows.append(coverage(world, replicates))
        say(f"{world.name}, {world.num_seeds} seeds: covers {rows[-1]['coverage']:.3f}")
    yield "coverage.csv", pd.DataFrame(rows)
    rows = []
    for name, skills, world in FAMILIES:
        rows.append(family(name, skills, world, boards))
        say(f"{name}, {world.name}, {world.num_seeds} seeds: wrong on {rows[-1]['wrong']:.3f}")
    yield "families.csv", pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and write its tables; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m halobench.leaderboard.simulate",
        description="Measure coverage and family-wise error of the board's statistics on simulated wins.",
        epilog="example:\n  python -m halobench.leaderboard.simulate --replicates 4000 --boards 2000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--replicates", type=int, default=4000, metavar="N", help="comparisons of each cell")
    parser.add_argument("--boards", type=int, default=2000, metavar="N", help="boards of each family")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder; tables go to simulation/"
    )
    parsed = parser.parse_args(arguments)
    folder = parsed.results / "simulation"
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in study(parsed.replicates, parsed.boards, lambda line: print(line, file=sys.stderr)):
        table.to_csv(folder / name, index=False, float_format="%.4g", lineterminator="\n")
        print(table.to_string(index=False), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
