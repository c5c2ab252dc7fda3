"""CSV of a run, one line per token or per step; the columns are documented in docs/schema.md."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import fields

from pass_core.decoding.events import StepEvent
from pass_core.records.runs import RunRecord
from pass_core.settings import SamplingSettings

TOKEN_COLUMNS = (
    "step", "index", "id", "text", "bytes_hex", "provenance", "draft_position", "p_target", "p_draft", "source",
    "uniform",
)  # fmt: skip
STEP_COLUMNS = (
    "index", "tokens", "proposed", "accepted", "calls", "rows", "lookahead_rows", "seconds", "forward_seconds",
    "context_length", "strategy", "k", "temperature", "top_k", "verification", "reason", "stop_reason",
    "top_p", "min_p",
)  # fmt: skip


RUN_COLUMNS = (
    "id", "created", "title", "status", "group", "model", "model_fingerprint", "lookahead", "device_name", "dtype",
    "threads", "strategy", "k", "auto", "verification", *(f.name for f in fields(SamplingSettings)), "seed",
    "prompt_tokens", "new_tokens", "steps", "calls", "tokens_per_call", "proposed", "accepted", "acceptance_rate",
    "time_to_first_token", "decode_seconds", "tokens_per_second", "stop_reason",
)  # fmt: skip


def runs_csv(records: Iterable[RunRecord]) -> str:
    """One line per run: what was asked for, on what, and what came of it (empty where nothing was counted)."""
    return _csv(RUN_COLUMNS, (_run_row(r) for r in records))


def tokens_csv(record: RunRecord) -> str:
    """One line per emitted token."""
    return _csv(TOKEN_COLUMNS, _token_rows(record.steps))


def steps_csv(record: RunRecord) -> str:
    """One line per step."""
    return _csv(STEP_COLUMNS, _step_rows(record.steps))


def _csv(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()


def _run_row(r: RunRecord) -> tuple[object, ...]:
    s, e, settings = r.summary, r.environment, r.settings
    return (
        r.id,
        r.created.isoformat(),
        r.title,
        r.status.value,
        r.group,
        r.model.name,
        r.model.fingerprint,
        None if r.lookahead is None else r.lookahead.origin,
        e.device_name,
        e.dtype,
        e.threads,
        settings.strategy.value,
        settings.k,
        settings.auto,
        settings.verification.value,
        *(getattr(settings.sampling, f.name) for f in fields(SamplingSettings)),
        r.seed,
        s.prompt_tokens,
        s.new_tokens,
        s.steps,
        s.calls,
        s.tokens_per_call if s.calls else None,
        s.proposed,
        s.accepted,
        s.acceptance_rate if s.proposed else None,
        s.time_to_first_token if s.new_tokens else None,
        s.decode_seconds,
        s.tokens_per_second if s.decode_seconds else None,
        s.stop_reason,
    )


def _token_rows(steps: Iterable[StepEvent]) -> Iterator[tuple[object, ...]]:
    for step in steps:
        for t in step.tokens:
            yield (
                step.index,
                t.index,
                t.id,
                t.text,
                t.bytes.hex(),
                t.provenance.value,
                t.draft_position,
                t.p_target,
                t.p_draft,
                None if t.source is None else t.source.value,
                t.uniform,
            )


def _step_rows(steps: Iterable[StepEvent]) -> Iterator[tuple[object, ...]]:
    for s in steps:
        yield (
            s.index,
            len(s.tokens),
            s.proposed,
            s.accepted,
            s.calls,
            " ".join(map(str, s.rows)),
            s.lookahead_rows,
            s.seconds,
            s.forward_seconds,
            s.context_length,
            s.settings.strategy.value,
            s.settings.k,
            s.settings.sampling.temperature,
            s.settings.sampling.top_k,
            s.settings.verification.value,
            s.reason,
            None if s.stop_reason is None else s.stop_reason.value,
            s.settings.sampling.top_p,
            s.settings.sampling.min_p,
        )
