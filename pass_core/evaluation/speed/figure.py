"""The paper's figure as SVG: time per token over k, plain decoding as a line, the best k marked (arXiv 2311.13581)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from pass_core.evaluation.baselines.contestant import Source
from pass_core.evaluation.statistics import Interval

if TYPE_CHECKING:
    from pass_core.evaluation.speed.report import Report, Result

WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 64, 214, 44, 52
# Okabe and Ito's palette: colour-blind people can tell its colours apart; readable on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 2", "1 3")
INK, GREY, GRID = "#222222", "#666666", "#e3e3e3"


@dataclass(frozen=True, slots=True)
class Curve:
    """One strategy over k."""

    name: str
    points: tuple[tuple[int, Interval], ...]

    @property
    def best(self) -> int:
        """The k with the least time per token."""
        return min(self.points, key=lambda p: p[1].median)[0]


@dataclass(frozen=True, slots=True)
class Level:
    """A way of decoding that has no k."""

    name: str
    time: Interval


@dataclass(frozen=True, slots=True)
class FigureData:
    """What the figure shows, in ms per token; drawn here as SVG and in the window with its own plot."""

    title: str
    curves: tuple[Curve, ...]
    levels: tuple[Level, ...]


def figure_data(results: Sequence[Result], prompt_set: str, temperature: float) -> FigureData:
    """Curves over k and levels of one prompt set and temperature."""
    chosen = [r for r in results if r.prompt_set == prompt_set and r.temperature == temperature]
    curves: dict[str, list[tuple[int, Interval]]] = {}
    levels: list[Level] = []
    for result in chosen:
        c = result.contestant
        if c.source is Source.OURS and c.k:
            name = " ".join(w for w in c.label.split(" ") if w != f"k={c.k}")
            curves.setdefault(name, []).append((c.k, result.ms_per_token))
        else:
            levels.append(Level(c.label, result.ms_per_token))
    subject = "all prompts" if prompt_set == "all" else prompt_set
    return FigureData(
        f"Time per token, {subject}, temperature {temperature:g}",
        tuple(Curve(name, tuple(sorted(points, key=lambda p: p[0]))) for name, points in curves.items()),
        tuple(levels),
    )


def time_per_token_svg(report: Report, prompt_set: str | None = None, temperature: float | None = None) -> str:
    """The figure of one prompt set (default: all together) and temperature (default: the last measured).

    Raises:
        ValueError: nothing was measured.
    """
    if not report.results:
        raise ValueError("There is nothing to draw: no run was finished.")
    last = report.results[-1]
    wanted = last.temperature if temperature is None else temperature
    return draw(figure_data(report.results, prompt_set or last.prompt_set, wanted))


def draw(data: FigureData) -> str:
    """SVG text."""
    highest = max(
        [i.high for c in data.curves for _, i in c.points] + [level.time.median for level in data.levels] + [1e-6]
    )
    ks = sorted({k for c in data.curves for k, _ in c.points}) or [1]
    step = _nice(highest * 1.05 / 5)
    top = step * math.ceil(highest * 1.05 / step)
    axes = _Axes(min(ks) - 0.5, max(ks) + 0.5, top)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold" fill="{INK}">{escape(data.title)}</text>',
        *_grid(axes, ks, step),
    ]
    legend: list[tuple[str, str, str]] = []
    for index, level in enumerate(data.levels):
        colour, dash = (INK, "") if index == 0 else (GREY, DASHES[index % len(DASHES)] or "5 3")
        y = axes.y(level.time.median)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, colour, dash, 1.6))
        legend.append((f"{level.name}: {level.time.median:.1f} ms", colour, dash))
    for index, curve in enumerate(data.curves):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        offset = (index - (len(data.curves) - 1) / 2) * 4
        parts += _curve(axes, curve, colour, dash, offset)
        best = min(i.median for _, i in curve.points)
        legend.append((f"{curve.name}: best {best:.1f} ms at k = {curve.best}", colour, dash))
    parts += _legend(legend)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


@dataclass(frozen=True, slots=True)
class _Axes:
    x_low: float
    x_high: float
    y_high: float

    def x(self, k: float) -> float:
        return LEFT + (k - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, ms: float) -> float:
        return HEIGHT - BOTTOM - ms / self.y_high * (HEIGHT - TOP - BOTTOM)


def _nice(step: float) -> float:
    """The nearest larger 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= step)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "", width: float = 1) -> str:
    pattern = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{pattern}/>'
    )


def _grid(axes: _Axes, ks: Sequence[int], step: float) -> list[str]:
    out: list[str] = []
    for i in range(round(axes.y_high / step) + 1):
        y = axes.y(i * step)
        out.append(_line(LEFT, y, WIDTH - RIGHT, y, GRID if i else GREY))
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{GREY}">{i * step:g}</text>')
    for k in ks:
        out.append(
            f'<text x="{axes.x(k):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="{GREY}">{k}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle:.1f}" y="{HEIGHT - 12}" text-anchor="middle" fill="{INK}">look-ahead steps k</text>')
    height = (TOP + HEIGHT - BOTTOM) / 2
    out.append(
        f'<text x="18" y="{height:.1f}" text-anchor="middle" fill="{INK}" '
        f'transform="rotate(-90 18 {height:.1f})">ms per token</text>'
    )
    return out


def _curve(axes: _Axes, curve: Curve, colour: str, dash: str, offset: float) -> list[str]:
    places = [(axes.x(k) + offset, interval, k) for k, interval in curve.points]
    path = " ".join(f"{x:.1f},{axes.y(i.median):.1f}" for x, i, _ in places)
    pattern = f' stroke-dasharray="{dash}"' if dash else ""
    out = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{pattern}/>']
    for x, interval, k in places:
        y = axes.y(interval.median)
        if interval.ends is not None:
            out.append(_line(x, axes.y(interval.low), x, axes.y(interval.high), colour, width=1))
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
        if k == curve.best:
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return out


def _legend(entries: Sequence[tuple[str, str, str]]) -> list[str]:
    x, y = WIDTH - RIGHT + 14, TOP + 6
    out: list[str] = []
    for text, colour, dash in entries:
        name, _, figure = text.partition(": ")
        out.append(_line(x, y, x + 22, y, colour, dash, 2))
        out.append(f'<text x="{x + 28}" y="{y + 4}" fill="{INK}">{escape(name)}</text>')
        out.append(f'<text x="{x + 28}" y="{y + 19}" fill="{GREY}">{escape(figure)}</text>')
        y += 40
    return out
