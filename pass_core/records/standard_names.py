"""A run's figures under the names that other programs use; docs/schema.md says what each of them means here.

Sources: vLLM's log line of speculative decoding (vllm/v1/spec_decode/metrics.py) and its Prometheus metrics; the
`timings` object of llama.cpp's server.
"""

from __future__ import annotations

from collections.abc import Sequence

from pass_core.decoding.events import StepEvent
from pass_core.decoding.summary import Summary, summarize

Figures = dict[str, int | float | list[int] | list[float] | None]


def standard_figures(steps: Sequence[StepEvent]) -> dict[str, Figures]:
    """The figures of a run by program, `vllm` and `llama.cpp`; None where there is nothing to divide by."""
    summary = summarize(steps)
    return {"vllm": _vllm(summary, sum(bool(s.drafts) for s in steps)), "llama.cpp": _llama_cpp(summary)}


def _vllm(s: Summary, drafts: int) -> Figures:
    """`drafts` counts steps that drafted, as vLLM counts them."""
    length = _ratio(s.accepted, drafts)
    return {
        "prompt_tokens": s.prompt_tokens,
        "generation_tokens": s.new_tokens,
        "generation_throughput": _ratio(s.new_tokens, s.decode_seconds),
        "time_to_first_token_seconds": s.time_to_first_token if s.new_tokens else None,
        "time_per_output_token_seconds": _ratio(s.decode_seconds, s.new_tokens),
        "num_drafts": drafts,
        "num_draft_tokens": s.proposed,
        "num_accepted_tokens": s.accepted,
        "num_accepted_tokens_per_pos": list(s.accepted_by_position),
        "mean_acceptance_length": None if length is None else 1 + length,
        "draft_acceptance_rate": _ratio(s.accepted, s.proposed),
        "per_position_acceptance_rate": [n / drafts for n in s.accepted_by_position] if drafts else [],
        "accepted_throughput": _ratio(s.accepted, s.decode_seconds),
        "drafted_throughput": _ratio(s.proposed, s.decode_seconds),
    }


def _llama_cpp(s: Summary) -> Figures:
    prompt_ms, predicted_ms = 1000 * s.prefill_seconds, 1000 * s.decode_seconds
    return {
        "prompt_n": s.prompt_tokens,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": _ratio(prompt_ms, s.prompt_tokens),
        "prompt_per_second": _ratio(s.prompt_tokens, s.prefill_seconds),
        "predicted_n": s.new_tokens,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": _ratio(predicted_ms, s.new_tokens),
        "predicted_per_second": _ratio(s.new_tokens, s.decode_seconds),
        "draft_n": s.proposed,
        "draft_n_accepted": s.accepted,
    }


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None
