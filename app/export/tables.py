"""CSV of a run, one line per token or per step; the columns are documented in docs/schema.md."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from pass_core.decoding.events import StepEvent
from pass_core.records.runs import RunRecord

TOKEN_COLUMNS = (
    "step", "index", "id", "text", "bytes_hex", "provenance", "draft_position", "p_target", "p_draft", "source",
    "uniform",
)  # fmt: skip
STEP_COLUMNS = (
    "index", "tokens", "proposed", "accepted", "calls", "rows", "lookahead_rows", "seconds", "forward_seconds",
    "context_length", "strategy", "k", "temperature", "top_k", "verification", "reason", "stop_reason",
)  # fmt: skip


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
        )
