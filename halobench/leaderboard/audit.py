"""What is strange about a store that is valid: seeds far from the others of their row, controls that fail."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from halobench.leaderboard.contrasts import compare, decodes, gate
from halobench.leaderboard.cube import BoardRow, Setting, load_settings
from halobench.results.store import Store

FAR = 4.0


def suspicions(store: Store) -> Iterator[str]:
    """Yield what somebody should look at, one line each; none of it makes a store wrong."""
    for setting in load_settings(store):
        yield from _outliers(setting)
        for comparison, must, passes in gate(compare(setting)):
            if not passes:
                yield (
                    f"{setting.suite} {setting.setting_id[:6]}: control {comparison.first} against "
                    f"{comparison.second} must come out {must}; it is {comparison.estimate.mean:+.3f} "
                    f"[{comparison.adjusted.low:+.3f}, {comparison.adjusted.high:+.3f}]; believe no rank "
                    "until you know why"
                )


def _outliers(setting: Setting) -> Iterator[str]:
    scorer, metric = setting.board.metric.split("/")
    for decode in decodes(setting):
        rows: list[tuple[BoardRow, list[float]]] = []
        for row in setting.rows:
            table = setting.table(row, scorer, decode, metric)
            if table is not None:
                rows.append((row, [float(mean) for mean in table.mean(1)]))
        far = far_seeds([values for _, values in rows])
        for (row, values), scores in zip(rows, far, strict=True):
            for seed, value, z in zip(row.completed, values, scores, strict=True):
                if abs(z) > FAR:
                    others = (sum(values) - value) / (len(values) - 1)
                    run_id = row.records[seed].run_id
                    yield (
                        f"{run_id}: {setting.board.metric} at {decode} is {value:.3f}, its row's other seeds "
                        f"have {others:.3f}, z = {z:+.1f}; look at its curves, or `halobench results verify "
                        f"{run_id}`"
                    )


def far_seeds(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Say how far each seed is from the others of its row, as a z-score.

    t = (y - mean of the others) sqrt((S - 1) / S) / s, with s^2 pooled over all rows but without the seed
    itself; few degrees of freedom make a large t likelier, so the z with the same tail is returned.

    Args:
        rows: for each row the means of its seeds.

    Returns:
        z of each; 0 where a row has one seed, or too few seeds are left to know a spread.
    """
    square = sum(float(np.var(values)) * len(values) for values in rows if values)
    df = sum(len(values) - 1 for values in rows if values) - 1
    found = []
    for values in rows:
        count = len(values)
        scores = []
        for value in values:
            away = (value - sum(values) / count) * math.sqrt(count / (count - 1)) if count > 1 else 0.0
            left = max(0.0, square - away**2)
            if df < 1 or not left > 1e-12 * square:
                scores.append(0.0)
                continue
            t = away / math.sqrt(left / df)
            scores.append(math.copysign(float(stats.norm.isf(stats.t.sf(abs(t), df))), t))
        found.append(scores)
    return found
