"""Small drawings inside a page: training curves and distributions, light enough for hundreds of pages."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 240, 96
_LEFT, _BOTTOM, _TOP = 44, 16, 6
_POINTS = 120


def curve(name: str, x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"], unit: str) -> Markup:
    """Draw a line with its smallest and largest value on both axes; values that are no numbers leave a gap.

    Args:
        name: what is drawn, for those who cannot see it.
        x: (N,) rising.
        y: (N,) values.
        unit: of x.
    """
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), _POINTS)).round().astype(int))
    x, y = x[kept], y[kept]
    finite = y[np.isfinite(y)]
    if not len(finite):
        return Markup("")
    low, high = float(finite.min()), float(finite.max())
    tiny = 1e-6 * (high - low)  # against the rounding errors of what is zero
    across = _scale(float(x[0]), float(x[-1]), _LEFT, _WIDTH - 4)
    up = _scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    lines: list[list[str]] = [[]]
    for px, py in zip(x, y, strict=True):
        if math.isfinite(py):
            lines[-1].append(f"{across(px)},{up(py)}")
        elif lines[-1]:
            lines.append([])
    drawn = "".join(
        f'<polyline points="{" ".join(line)}"/>'
        if len(line) > 1
        else '<circle cx="{}" cy="{}" r="2"/>'.format(*line[0].split(","))
        for line in lines
        if line
    )
    label = f"{name}: {y[0]:.3g} at {unit} {x[0]:g}, {y[-1]:.3g} at {unit} {x[-1]:g}"
    texts = [
        _text(_LEFT - 4, _TOP + 6, f"{high if abs(high) > tiny else 0:.3g}" if low < high else "", "end"),
        _text(_LEFT - 4, _HEIGHT - _BOTTOM, f"{low if abs(low) > tiny else 0:.3g}", "end"),
        _text(_LEFT, _HEIGHT - 4, f"{x[0]:g}", "start"),
        _text(_WIDTH - 4, _HEIGHT - 4, f"{x[-1]:g} {unit}s", "end"),
    ]
    return _figure(label, "curve", _axes() + drawn + "".join(texts))


def histogram(name: str, values: Float[np.ndarray, " values"], bins: int = 25) -> Markup:
    """Draw how values are spread, on an axis with zero in its middle.

    Args:
        name: what is drawn, for those who cannot see it.
        values: (N,) at least one.
        bins: bars; an odd number has one around zero.
    """
    limit = float(np.abs(values).max()) or 1.0
    counts, edges = np.histogram(values, bins=bins, range=(-limit, limit))
    across = _scale(-limit, limit, _LEFT, _WIDTH - 4)
    up = _scale(0, float(counts.max()), _HEIGHT - _BOTTOM, _TOP)
    floor = _HEIGHT - _BOTTOM
    bars = "".join(
        f'<rect x="{across(left)}" y="{up(count)}" width="{(_WIDTH - 4 - _LEFT) / bins - 1:.1f}" '
        f'height="{floor - float(up(count)):.1f}"/>'
        for left, count in zip(edges[:-1], counts, strict=True)
        if count
    )
    middle = across(0)
    zero = f'<line class="zero" x1="{middle}" x2="{middle}" y1="{_TOP}" y2="{floor}"/>'
    shares = f"{(values > 0).mean():.0%} above zero, {(values < 0).mean():.0%} below"
    texts = [
        _text(_LEFT - 4, _TOP + 6, f"{counts.max()}", "end"),
        _text(_LEFT, _HEIGHT - 4, f"{-limit:+.2f}", "start"),
        _text(float(middle), _HEIGHT - 4, "0", "middle"),
        _text(_WIDTH - 4, _HEIGHT - 4, f"{limit:+.2f}", "end"),
    ]
    return _figure(f"{name}: {shares}", "bars", _axes() + bars + zero + "".join(texts))


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], str]:
    """A straight line from values to places, written with one digit behind the point."""
    slope = (end - start) / (high - low) if high > low else 0.0
    return lambda value: f"{start + (value - low) * slope:.1f}"


def _axes() -> str:
    floor = _HEIGHT - _BOTTOM
    return f'<path class="axis" d="M{_LEFT} {_TOP}V{floor}H{_WIDTH - 4}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _figure(label: str, kind: str, inside: str) -> Markup:
    start = f'<svg class="{kind}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
    return Markup(f"{start}{inside}</svg>")
