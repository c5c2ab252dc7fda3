"""A batch folded into means with intervals, and written to files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pass_core.evaluation.baselines.contestant import Measurement
from pass_core.evaluation.batch.plan import BatchPlan
from pass_core.evaluation.batch.run import BatchRun
from pass_core.evaluation.machine_load import MachineLoad, machine_load
from pass_core.evaluation.state import JsonDict
from pass_core.evaluation.statistics import Interval, mean_interval
from pass_core.files import write_atomically
from pass_core.records.runs import settings_to_dict
from pass_core.settings import DecodingSettings, SamplingSettings, Strategy, Verification

FORMAT, VERSION = "pass-batch", 1
FIGURES = ("tokens_per_second", "tokens_per_call", "acceptance", "first_token_ms", "new_tokens")


@dataclass(frozen=True, slots=True)
class CellResult:
    """One setting over its seeds. Each figure is the mean over runs; None where no run has it.

    Attributes:
        runs: how many are there.
        acceptance: accepted of proposed drafts.
        first_token_ms: time that the prompt's processing takes.
        texts: how many different texts the seeds gave.
        same_text, compared: runs whose text is exactly plain decoding's of the same seed and sampling, of how many.
    """

    settings: DecodingSettings
    runs: int
    tokens_per_second: Interval | None
    tokens_per_call: Interval | None
    acceptance: Interval | None
    first_token_ms: Interval | None
    new_tokens: Interval | None
    texts: int
    same_text: int
    compared: int


@dataclass(frozen=True)
class BatchReport:
    """What there is so far; `load` tells what other programs did meanwhile."""

    plan: BatchPlan
    runs: tuple[BatchRun, ...]
    results: tuple[CellResult, ...]
    complete: bool
    load: MachineLoad | None
    environment: JsonDict


def make_report(
    plan: BatchPlan, runs: Sequence[BatchRun], environment: JsonDict | None = None, *, complete: bool = False
) -> BatchReport:
    """Fold the runs; cells without a run are left out."""
    plain = {
        (r.settings.sampling, r.seed): r.measurement.text_hash
        for r in runs
        if r.settings.strategy is Strategy.AUTOREGRESSIVE
    }
    results = [_fold(cell, own, plain) for cell in plan.cells if (own := [r for r in runs if r.settings == cell])]
    load = machine_load([r.others for r in runs if r.others is not None])
    return BatchReport(plan, tuple(runs), tuple(results), complete, load, environment or {})


def _fold(
    cell: DecodingSettings, runs: Sequence[BatchRun], plain: dict[tuple[SamplingSettings, int], str]
) -> CellResult:
    def mean(figure: Callable[[Measurement], float | None]) -> Interval | None:
        values = [v for r in runs if (v := figure(r.measurement)) is not None]
        return mean_interval(values) if values else None

    pairs = [(r.measurement.text_hash, plain.get((cell.sampling, r.seed))) for r in runs]
    compared = [own == other for own, other in pairs if other is not None]
    return CellResult(
        settings=cell,
        runs=len(runs),
        tokens_per_second=mean(lambda m: 1000 / m.ms_per_token if m.ms_per_token else None),
        tokens_per_call=mean(lambda m: m.timed_tokens / m.calls if m.calls else None),
        acceptance=mean(lambda m: m.accepted / m.proposed if m.proposed else None),
        first_token_ms=mean(lambda m: 1000 * m.prefill_seconds),
        new_tokens=mean(lambda m: float(m.new_tokens)),
        texts=len({r.measurement.text_hash for r in runs}),
        same_text=sum(compared),
        compared=0 if cell.verification is Verification.REJECTION else len(compared),
    )


def write_report(report: BatchReport, path: str | Path) -> None:
    """Write as the name's ending says: .json everything, .csv one line a setting, .runs.csv one line a run.

    Raises:
        ValueError: another ending. WriteError: with the reason.
    """
    path = Path(path).expanduser()
    if path.name.endswith(".runs.csv"):
        text = runs_csv(report)
    elif path.suffix == ".csv":
        text = cells_csv(report)
    elif path.suffix == ".json":
        text = json.dumps(as_dict(report), indent=1) + "\n"
    else:
        raise ValueError(f"“{path.suffix}” is no format of a batch: choose .json or .csv")
    write_atomically(path, text, private=True)


def as_dict(report: BatchReport) -> JsonDict:
    """The JSON form; intervals only where there are enough runs for one."""
    plan = report.plan
    return {
        "format": FORMAT,
        "schema_version": VERSION,
        "complete": report.complete,
        "environment": report.environment,
        "machine_load": None if report.load is None else {**asdict(report.load), "busy": report.load.busy},
        "prompt": plan.prompt.text,
        "chat": plan.prompt.chat,
        "new_tokens": plan.new_tokens,
        "ignore_eos": plan.ignore_eos,
        "seeds": list(plan.seeds),
        "results": [_result_dict(r) for r in report.results],
        "runs": [_run_dict(r) for r in report.runs],
    }


def _result_dict(r: CellResult) -> JsonDict:
    told: JsonDict = {"settings": settings_to_dict(r.settings), "runs": r.runs}
    for name in FIGURES:
        interval: Interval | None = getattr(r, name)
        told[name] = (
            None
            if interval is None
            else {
                "mean": interval.median,
                "interval": list(interval.ends) if interval.ends else None,
                "n": interval.count,
            }
        )
    return told | {"texts": r.texts, "same_text_as_plain": [r.same_text, r.compared]}


def _run_dict(r: BatchRun) -> JsonDict:
    measured = asdict(r.measurement)
    del measured["cancelled"]
    return {"settings": settings_to_dict(r.settings), "seed": r.seed, "others": r.others, **measured}


_SETTINGS = ("strategy", "k", "auto", "verification", *(f.name for f in fields(SamplingSettings)))


def cells_csv(report: BatchReport) -> str:
    """One line a setting: mean, ends of the interval (empty under five runs) and n of each figure."""
    heads = [f"{name}{tail}" for name in FIGURES for tail in ("", "_low", "_high", "_n")]
    rows: list[list[Any]] = []
    for r in report.results:
        row = _settings_cells(r.settings)
        for name in FIGURES:
            interval: Interval | None = getattr(r, name)
            ends = (None, None) if interval is None else interval.ends or (None, None)
            row += [None if interval is None else interval.median, *ends, 0 if interval is None else interval.count]
        rows.append([*row, r.texts, r.same_text, r.compared])
    return _csv([*_SETTINGS, *heads, "texts", "same_text", "compared"], rows)


def runs_csv(report: BatchReport) -> str:
    """One line a run."""
    heads = (
        "new_tokens",
        "timed_tokens",
        "calls",
        "steps",
        "accepted",
        "proposed",
        "prefill_seconds",
        "decode_seconds",
    )
    rows = [
        [*_settings_cells(r.settings), r.seed, *(getattr(r.measurement, h) for h in heads), r.measurement.text_hash]
        for r in report.runs
    ]
    return _csv([*_SETTINGS, "seed", *heads, "text_hash"], rows)


def _settings_cells(s: DecodingSettings) -> list[Any]:
    sampling = [getattr(s.sampling, f.name) for f in fields(SamplingSettings)]
    return [s.strategy.value, s.k, s.auto, s.verification.value, *sampling]


def _csv(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return out.getvalue()
