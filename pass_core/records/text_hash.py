"""A short hash of a text together with all that decides it: equal hashes mean the same text from the same cause.

Under the coupled rule a text depends on model, prompt, seed, sampling settings and stop conditions alone. Strategy, k,
tree and look-ahead file are left out, so that every one of them has to give the same hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from pass_core.decoding.events import StepEvent
from pass_core.settings import SamplingSettings, StopConditions

HASH_DIGITS = 12


def sampling_schedule(steps: Iterable[StepEvent]) -> tuple[tuple[int, SamplingSettings], ...]:
    """Which sampling settings held from which token on: (0-based index of the token, settings), one for each change."""
    schedule: list[tuple[int, SamplingSettings]] = []
    for step in steps:
        if step.tokens and (not schedule or schedule[-1][1] != step.settings.sampling):
            schedule.append((step.tokens[0].index, step.settings.sampling))
    return tuple(schedule)


_OFF = (SamplingSettings().top_p, SamplingSettings().min_p)


def _deciding(sampling: SamplingSettings) -> tuple[float, ...]:
    """Top-p and min-p only where they are on: hashes of before stay the same."""
    always = float(sampling.temperature), sampling.top_k
    return (
        (*always, float(sampling.top_p), float(sampling.min_p)) if (sampling.top_p, sampling.min_p) != _OFF else always
    )


def text_hash(
    fingerprint: str, prompt_ids: Sequence[int], steps: Sequence[StepEvent], *, seed: int, stop: StopConditions
) -> str:
    """The first HASH_DIGITS hexadecimal digits of a SHA-256.

    Args:
        fingerprint: of the model's weights.
        prompt_ids: what the model read.
        steps: the text's; only their tokens and sampling settings count.
        seed: as given; the engine takes it modulo 2^64.
    """
    decided_by = {
        "model": fingerprint,
        "prompt": list(prompt_ids),
        "seed": seed % 2**64,
        "sampling": [(at, *_deciding(s)) for at, s in sampling_schedule(steps)],
        "stop": (stop.max_new_tokens, stop.stop_strings, stop.ignore_eos),
        "tokens": [t.id for step in steps for t in step.tokens],
    }
    written = json.dumps(decided_by, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(written).hexdigest()[:HASH_DIGITS]
