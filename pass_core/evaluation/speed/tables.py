"""A benchmark's report as files: JSON, CSV, Markdown, and the figure as SVG."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from pass_core.evaluation.environment import machine_line
from pass_core.evaluation.speed.figure import time_per_token_svg
from pass_core.evaluation.speed.report import ALL_SETS, Report, Result
from pass_core.evaluation.speed.roofline import Roofline
from pass_core.evaluation.state import JsonDict
from pass_core.evaluation.statistics import Interval
from pass_core.files import write_atomically

COLUMNS: tuple[str, ...] = (
    "source",
    "strategy",
    "k",
    "embeddings",
    "prompt_lookup",
    "verification",
    "prompt_set",
    "temperature",
    "runs",
    "tokens",
    "ms_per_token",
    "ms_per_token_low",
    "ms_per_token_high",
    "tokens_per_second",
    "prefill_ms",
    "tokens_per_call",
    "accepted_per_iteration",
    "acceptance_by_position",
    "speedup_vs_autoregressive",
    "speedup_vs_autoregressive_low",
    "speedup_vs_autoregressive_high",
    "speedup_vs_transformers",
    "speedup_vs_transformers_low",
    "speedup_vs_transformers_high",
    "same_text",
    "compared",
    "ms_per_token_n",
    "speedup_vs_autoregressive_n",
    "speedup_vs_transformers_n",
    "examined_by_position",
)


def write_report(report: Report, path: str | Path) -> None:
    """Write in the format that the name's ending says: .json, .csv, .md or .svg.

    Raises:
        ValueError: another ending.
    """
    path = Path(path).expanduser()
    makers = {".json": to_json, ".csv": to_csv, ".md": to_markdown, ".svg": to_svg}
    make = makers.get(path.suffix.lower())
    if make is None:
        raise ValueError(f"A report can be written as {', '.join(makers)}, not as “{path.suffix or path.name}”.")
    write_atomically(path, make(report))


def to_json(report: Report) -> str:
    return json.dumps(report.as_dict(), ensure_ascii=False, indent=1) + "\n"


def to_csv(report: Report) -> str:
    """One line a result."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for result in report.results:
        writer.writerow(_flat(result))
    return out.getvalue()


def to_svg(report: Report) -> str:
    """The paper's figure for the first temperature and all prompts together."""
    return time_per_token_svg(report)


def _flat(result: Result) -> JsonDict:
    row = result.as_dict()
    ms = result.ms_per_token
    low, high = ms.ends or (None, None)
    row |= {"ms_per_token": ms.median, "ms_per_token_low": low, "ms_per_token_high": high}
    for name in ("speedup_vs_autoregressive", "speedup_vs_transformers"):
        interval = cast("Interval | None", getattr(result, name))
        ends = None if interval is None else interval.ends
        row[f"{name}_low"], row[f"{name}_high"] = ends or (None, None)
    row["acceptance_by_position"] = " ".join(f"{a:.3f}" for a in result.acceptance_by_position)
    row["examined_by_position"] = " ".join(map(str, result.examined_by_position))
    row["same_text"], row["compared"] = result.same_text, result.compared
    return row


def to_markdown(report: Report) -> str:
    """Tables with the environment and the command that repeats them."""
    e, plan = report.environment, report.plan
    lines = ["# Benchmark", "", machine_line(e) + ".", ""]
    sets = ", ".join(f"{name} ({sum(p.set == name for p in plan.prompts)} prompts)" for name in plan.sets)
    kept = ", ".join(plan.sampling(1.0).described[1:])
    lines += [
        f"Prompts: {sets}; at most {plan.new_tokens} new tokens, {kept}, "
        f"{plan.repeats} repeat(s), interleaved, after warm-up; prompt processing is not in ms/token.",
        "",
    ]
    for label, raw in cast("Mapping[str, Mapping[str, object]]", e.get("embeddings") or {}).items():
        lines.append(f"Look-ahead embeddings “{label}”: {raw['name']} (L = {raw['look_ahead']}, {_parts(raw)}).")
    if e.get("command"):
        lines += ["", f"    {e['command']}"]
    if report.load is not None:
        lines += ["", report.load.sentence()]
    if not report.complete:
        lines += ["", f"Ended before all was measured, after {len(report.samples)} runs."]
    for temperature in plan.temperatures:
        names = (*plan.sets, ALL_SETS) if len(plan.sets) > 1 else plan.sets
        for name in reversed(names):
            chosen = [r for r in report.results if r.temperature == temperature and r.prompt_set == name]
            if chosen:
                title = "all prompts" if name == ALL_SETS else name
                lines += ["", f"## {title}, temperature {temperature:g}", "", *markdown_table(chosen)]
    if report.roofline is not None:
        lines += ["", *_roofline_lines(report.roofline)]
    return "\n".join(lines) + "\n"


def _parts(raw: Mapping[str, object]) -> str:
    parts = " + ".join(cast("list[str]", raw["parts"]))
    return parts if raw["trained"] else f"{parts}, untrained"


def markdown_table(results: Sequence[Result]) -> list[str]:
    """Lines of a Markdown table, one row a contestant."""
    lines = [
        "| decoding | runs | ms/token (95 %) | tokens/s | tokens/call | accepted by position (of n) "
        "| × autoregressive (95 %) | × transformers (95 %) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        lines.append(
            f"| {r.contestant.label} | {r.runs} | {r.ms_per_token.text(1)} | {r.tokens_per_second:.1f} "
            f"| {r.tokens_per_call:.2f} | {acceptance_text(r)} | {interval_text(r.speedup_vs_autoregressive)} "
            f"| {interval_text(r.speedup_vs_transformers)} |"
        )
    return lines


def acceptance_text(result: Result) -> str:
    """Acceptance by draft position and of how many drafts, such as "0.55 (120) 0.42 (66)"."""
    pairs = zip(result.acceptance_by_position, result.examined_by_position, strict=True)
    return " ".join(f"{a:.2f} ({n})" for a, n in pairs) or "–"


def interval_text(interval: Interval | None) -> str:
    """A ratio with its interval and n; a dash where there is none."""
    return "–" if interval is None else interval.text()


def _roofline_lines(roofline: Roofline) -> list[str]:
    return [
        "## Cost of a call",
        "",
        f"{roofline.weight_bytes / 1e6:.0f} MB of weights over a measured {roofline.bandwidth / 1e9:.1f} GB/s: "
        f"no call can take less than {1000 * roofline.floor_seconds:.2f} ms ({roofline.runtime}, "
        f"{roofline.context} tokens in context).",
        "",
        "| rows | " + " | ".join(map(str, roofline.rows)) + " |",
        "|---|" + "---|" * len(roofline.rows),
        "| ms | " + " | ".join(f"{1000 * s:.1f}" for s in roofline.seconds) + " |",
        "| share of the floor reached | " + " | ".join(f"{100 * s:.0f} %" for s in roofline.shares) + " |",
    ]
