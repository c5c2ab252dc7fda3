"""The planner's calibration: how often drafts are accepted whose acceptance it predicted, by what it predicted.

    python docs/tools/training/calibration.py --rows 8 16 32 --out docs/calibration

Every call has the given number of rows. Before it, the planner gives each draft a reach: the probability that the walk
gets to it and accepts it. The table and the picture compare the mean reach of drafts with like reaches with the share
of them that was accepted, and the tokens that calls were expected to give with those that they gave.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pass_core.decoding.acceptance import AcceptanceModel
from pass_core.decoding.events import DraftStatus
from pass_core.engine import Engine
from pass_core.evaluation.prompts import BUILT_IN, built_in, prompt_ids
from pass_core.models.loading import load_model
from pass_core.models.shipped import default_lookahead
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy

EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SIZE, MARGIN = 360, 48
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True, slots=True)
class Verified:
    """One verified draft: its reach, the same with the tail's correction, its depth, whether it was accepted."""

    reach: float
    tempered: float
    depth: int
    accepted: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """Drafts with like reaches: how many, their mean reach, the share accepted and its standard error."""

    drafts: int
    predicted: float
    observed: float
    error: float


class Watcher:
    """Reads every verified tree before the planner learns from it."""

    def __init__(self) -> None:
        self.drafts: list[Verified] = []
        self.trees = 0
        self._learn = AcceptanceModel.learn

    def __enter__(self) -> Watcher:
        own, learn = self, self._learn

        def watching(model: AcceptanceModel, tree: Any, match: int, steps: Sequence[int]) -> None:
            tempered = model.tempered([draft.reach for draft in tree.drafts])
            own.trees += 1
            own.drafts += [
                Verified(draft.reach, corrected, draft.depth, draft.status is DraftStatus.ACCEPTED)
                for draft, corrected in zip(tree.drafts, tempered, strict=True)
            ]
            learn(model, tree, match, steps)

        AcceptanceModel.learn = watching  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        AcceptanceModel.learn = self._learn  # type: ignore[method-assign]


def binned(pairs: Iterable[tuple[float, bool]]) -> list[Bin]:
    """(reach, accepted) of drafts, by reach."""
    groups: list[list[tuple[float, bool]]] = [[] for _ in EDGES[1:]]
    for reach, accepted in pairs:
        groups[next(i for i, edge in enumerate(EDGES[1:]) if reach <= edge or edge == 1.0)].append((reach, accepted))
    out: list[Bin] = []
    for group in groups:
        if group:
            observed = sum(accepted for _, accepted in group) / len(group)
            error = math.sqrt(max(observed * (1 - observed), 1e-9) / len(group))
            out.append(Bin(len(group), sum(reach for reach, _ in group) / len(group), observed, error))
    return out


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of predicted from observed over all drafts."""
    return sum(b.drafts * abs(b.predicted - b.observed) for b in bins) / max(1, sum(b.drafts for b in bins))


def table(rows: int, bins: Sequence[Bin], corrected: Sequence[Bin], watcher: Watcher) -> list[str]:
    """Markdown of one number of rows."""
    calls = max(1, watcher.trees)
    expected, tempered = (sum(values) / calls for values in zip(*((d.reach, d.tempered) for d in watcher.drafts)))
    got = sum(d.accepted for d in watcher.drafts) / calls
    lines = [
        f"## {rows} rows a call",
        "",
        f"{watcher.trees:,} verified trees, {len(watcher.drafts):,} drafts. Drafts expected to be accepted a call: "
        f"**{expected:.2f}**, with the tail's correction {tempered:.2f}; accepted: **{got:.2f}**. Mean distance of "
        f"predicted from observed over all drafts: {calibration_error(bins):.3f}, with the tail's correction "
        f"{calibration_error(corrected):.3f}.",
        "",
        "| reach predicted | mean | accepted | standard error | drafts |",
        "|---|---|---|---|---|",
    ]
    for b in bins:
        edge = next(i for i, e in enumerate(EDGES[1:]) if b.predicted <= e or e == 1.0)
        lines.append(
            f"| {EDGES[edge]:g} to {EDGES[edge + 1]:g} | {b.predicted:.3f} | {b.observed:.3f} | {b.error:.3f} "
            f"| {b.drafts:,} |"
        )
    by_depth: dict[int, list[Verified]] = {}
    for draft in watcher.drafts:
        by_depth.setdefault(draft.depth, []).append(draft)
    lines += ["", "| depth | drafts | mean reach | accepted |", "|---|---|---|---|"]
    for depth, drafts in sorted(by_depth.items()):
        reach, accepted = sum(d.reach for d in drafts) / len(drafts), sum(d.accepted for d in drafts) / len(drafts)
        lines.append(f"| {depth} | {len(drafts):,} | {reach:.3f} | {accepted:.3f} |")
    return [*lines, ""]


def picture(curves: dict[int, list[Bin]]) -> str:
    """Observed over predicted as SVG, one line for each number of rows."""

    def at(x: float, y: float) -> str:
        return f"{MARGIN + x * SIZE:.1f},{MARGIN / 2 + (1 - y) * SIZE:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE + 2 * MARGIN} {SIZE + 2 * MARGIN}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<polyline points="{at(0, 0)} {at(1, 1)}" stroke="#999999" stroke-dasharray="4 3" fill="none"/>',
    ]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1.0):
        for start, end in ((at(tick, 0), at(tick, 1)), (at(0, tick), at(1, tick))):
            parts.append(f'<polyline points="{start} {end}" stroke="#e3e3e3" fill="none"/>')
        x, y = at(tick, 0).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 16}" text-anchor="middle" fill="#222222">{tick:g}</text>')
        x, y = at(0, tick).split(",")
        parts.append(f'<text x="{float(x) - 6}" y="{float(y) + 4}" text-anchor="end" fill="#222222">{tick:g}</text>')
    for number, (rows, bins) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(at(b.predicted, b.observed) for b in bins)
        parts.append(f'<polyline points="{points}" stroke="{colour}" stroke-width="1.6" fill="none"/>')
        for b in bins:
            low, high = max(0.0, b.observed - b.error), min(1.0, b.observed + b.error)
            x, y = at(b.predicted, b.observed).split(",")
            bar = f"{at(b.predicted, low)} {at(b.predicted, high)}"
            parts.append(f'<circle cx="{x}" cy="{y}" r="2.6" fill="{colour}"/>')
            parts.append(f'<polyline points="{bar}" stroke="{colour}" fill="none"/>')
        x, y = at(0.06, 0.95 - 0.06 * number).split(",")
        parts.append(f'<text x="{x}" y="{y}" fill="{colour}">{rows} rows</text>')
    x, y = at(0.5, 0).split(",")
    parts.append(f'<text x="{x}" y="{float(y) + 36}" text-anchor="middle" fill="#222222">predicted reach</text>')
    x, y = at(0, 0.5).split(",")
    turn = f"rotate(-90 {float(x) - 34} {y})"
    parts.append(
        f'<text x="{float(x) - 34}" y="{y}" text-anchor="middle" transform="{turn}" fill="#222222">accepted</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--embeddings", default="best")
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--out", type=Path, help="writes OUT.md and OUT.svg")
    asked = parser.parse_args()
    model = load_model(asked.model, dtype=asked.dtype)
    if asked.embeddings == "best":
        lookahead = default_lookahead(model)
    else:
        from pass_core.models.lookahead_hub import load_named

        lookahead = load_named(asked.embeddings, model)
    engine = Engine(model)
    engine.prepare(lookahead)
    turns = zip_longest(*(built_in(name) for name in BUILT_IN))
    chosen = [prompt for turn in turns for prompt in turn if prompt is not None][: asked.prompts]
    lines = [
        "# Predicted and observed acceptance",
        "",
        f"{Path(lookahead.origin).name}, {len(chosen)} built-in prompts, {asked.tokens} tokens each, temperature 0.8, "
        "top-k 10, coupled rule, a fixed number of rows a call.",
        "",
    ]
    curves: dict[int, list[Bin]] = {}
    for rows in asked.rows:
        settings = DecodingSettings(
            strategy=Strategy.FUSED,
            k=lookahead.count,
            sampling=SamplingSettings(0.8, 10),
            row_budget=rows,
            auto=False,
        )
        with Watcher() as watcher:
            for prompt in chosen:
                stop = StopConditions(asked.tokens, ignore_eos=True)
                for _ in engine.decode(prompt_ids(prompt, model), settings, lookahead=lookahead, stop=stop, seed=0):
                    pass
        curves[rows] = binned((d.reach, d.accepted) for d in watcher.drafts)
        corrected = binned((d.tempered, d.accepted) for d in watcher.drafts)
        lines += table(rows, curves[rows], corrected, watcher)
        print("\n".join(lines[-40:]), flush=True)
    if asked.out is not None:
        asked.out.with_suffix(".md").write_text("\n".join(lines), encoding="utf-8")
        asked.out.with_suffix(".svg").write_text(picture(curves), encoding="utf-8")


if __name__ == "__main__":
    main()
