"""The automatic weights of the compiled library: measured once on this machine.

Candidates are the formats that hold the checkpoint exactly: a GGUF file's own blocks, float32, and bfloat16 where every
weight of the checkpoint is a bfloat16 number. The choice is the one that is fastest for PASS.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import torch

from pass_core.files import keep
from pass_core.models.errors import ModelError
from pass_core.models.gguf_blocks import GgufBlocks
from pass_core.models.language_model import LanguageModel
from pass_core.models.processor import processor_key
from pass_core.runtime.base import Runtime
from pass_core.runtime.exactness import SHORT, exactness
from pass_core.runtime.kept_choices import choices_folder
from pass_core.runtime.native.build import found
from pass_core.runtime.native.formats import Weights
from pass_core.runtime.native.runtime import NativeRuntime
from pass_core.runtime.other_work import OtherWork, is_busy

ROWS, TOKENS = 8, 1.6
"""A pass of ROWS rows brings about TOKENS tokens with the shipped drafts, as measured on the default model."""
_ROUNDS = 4  # forward passes of each size, of which the first warms up
_CONTEXT = 16  # tokens before them
_READ_BYTES = 128 << 20  # more than caches hold
_SURE = 0.9  # a forward pass takes at least so much of the time that reading its weights alone took

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A format that is exact for the model.

    Attributes:
        least_bytes: no forward pass reads fewer bytes of weights.
        make: packs a runtime.
        said: what it is exact with regard to.
    """

    weights: Weights
    least_bytes: int
    make: Callable[[], NativeRuntime]
    said: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The measured times and the format that follows from them.

    Attributes:
        weights: the fastest format.
        milliseconds: a token's time by measured format; empty where there was only one format.
        at_least: the same for formats that were not timed: reading their weights alone takes longer than a token in
            the fastest.
        others: processors that other programs kept busy meanwhile, None where nobody knows.
    """

    weights: Weights
    milliseconds: Mapping[Weights, float] = field(default_factory=dict[Weights, float])
    at_least: Mapping[Weights, float] = field(default_factory=dict[Weights, float])
    others: float | None = None

    @property
    def reason(self) -> str:
        """A few words on why it is the one."""
        slower = [f"{ms:.1f} in {SHORT[w]}" for w, ms in self.milliseconds.items() if w != self.weights]
        slower += [f"{ms:.1f} or more in {SHORT[w]}" for w, ms in self.at_least.items()]
        if not slower:
            return "no other format is exact for this model here"
        busy = ", measured while other programs ran" if is_busy(self.others) else ""
        return (
            f"{self.milliseconds[self.weights]:.1f} ms per token against {' and '.join(slower)} on this processor{busy}"
        )


def automatic_runtime(model: LanguageModel) -> Runtime | None:
    """The compiled runtime with the fastest exact weights, None where none fits into memory.

    Measures where this processor, library and model have no measurement yet (about a second), and keeps it. What was
    measured while other programs ran is measured again by the next start, and gives way to a quieter measurement.
    """
    candidates = exact_candidates(model)
    if not candidates:
        return None
    formats: list[Weights] = [c.weights for c in candidates]
    path = choices_folder() / f"{_machine()}-{_digest(model.fingerprint, *formats)}.json"
    choice = _read(path, formats)
    runtime: NativeRuntime | None = None
    if choice is None or is_busy(choice.others):
        work = OtherWork()
        found_now, made = measure_choice(candidates, vocabulary=min(256, model.vocabulary_size))
        found_now = replace(found_now, others=work.processors())
        if choice is None or (found_now.others or 0.0) < (choice.others or 0.0):
            choice, runtime = found_now, made
    chosen = next(c for c in candidates if c.weights == choice.weights)
    model.weights_reason = f"{chosen.said} ({choice.reason})"
    keep(path, _as_bytes(choice, model))
    return runtime or chosen.make()


def exact_candidates(model: LanguageModel) -> list[Candidate]:
    """Each exact format that fits into memory, those that take least of it first."""
    free = psutil.virtual_memory().available
    count = model.parameter_count
    embedding = model.input_embedding.weight
    tied = model.lm_head.weight.data_ptr() == embedding.data_ptr()
    read = count if tied else count - embedding.numel()  # of an input table alone a forward pass reads a few rows
    candidates: list[Candidate] = []

    def add(weights: Weights, needed: int, least: int, blocks: GgufBlocks | None = None) -> None:
        if needed * 1.2 < free:
            candidates.append(
                Candidate(
                    weights,
                    least,
                    lambda: NativeRuntime(model, weights=weights, blocks=blocks),
                    exactness(weights, blocks, holds=True),
                )
            )

    blocks = blocks_of(model)
    if blocks is not None:
        add("gguf", blocks.nbytes, 0, blocks)
    if is_bfloat16(model):
        add("bfloat16", 2 * count, 2 * read)
    add("float32", 4 * count, 4 * read)
    return candidates


def blocks_of(model: LanguageModel) -> GgufBlocks | None:
    """The blocks of the file that the model came from, None where there is none that is read here."""
    if model.gguf is None:
        return None
    try:
        return GgufBlocks(model.gguf)
    except ModelError as error:
        log.info("%s", error)
        return None


def is_bfloat16(model: LanguageModel) -> bool:
    """Whether bfloat16 holds every weight exactly."""
    return all(
        p.dtype is torch.bfloat16 or torch.equal(p.to(torch.bfloat16).to(p.dtype), p) for p in model.model.parameters()
    )


def measure_choice(candidates: Sequence[Candidate], vocabulary: int = 256) -> tuple[Choice, NativeRuntime | None]:
    """Time a few passes of each format, of one row and of `ROWS`; the way that is faster per token counts.

    A format is not packed at all where reading its weights once takes longer than the fastest so far. One runtime is
    kept in memory at a time, besides the best so far.

    Returns:
        the choice, and its runtime where it was made.
    """
    from pass_core.runtime.cost import measure  # it makes runtimes through the factory, which comes here

    if len(candidates) == 1:
        return Choice(candidates[0].weights), None
    times: dict[Weights, float] = {}
    at_least: dict[Weights, float] = {}
    best: NativeRuntime | None = None
    speed = 0.0
    for candidate in candidates:
        weights = candidate.weights
        if best is not None:
            speed = speed or read_speed(best)
            least = 1000 * _SURE * candidate.least_bytes / speed / TOKENS
            if least > min(times.values()):
                at_least[weights] = least
                continue
        runtime = candidate.make()
        cost = measure(runtime, rows=(1, ROWS), context=_CONTEXT, repeats=_ROUNDS, vocabulary=vocabulary).seconds
        times[weights] = 1000 * min(cost[1], cost[ROWS] / TOKENS)
        if times[weights] == min(times.values()):
            best = runtime
    return Choice(min(times, key=lambda w: times[w]), times, at_least), best


def read_speed(runtime: NativeRuntime) -> float:
    """Bytes of memory that the library's threads read in a second."""
    buffer = torch.ones(_READ_BYTES // 4)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        runtime.read(buffer)
        best = min(best, time.perf_counter() - started)
    return _READ_BYTES / best


def _machine() -> str:
    """What tells this processor with this library from others, in a file's name."""
    library = found()
    version = library.library.pass_abi_version().decode() if library.library is not None else ""
    return "2-" + _digest(processor_key(), library.isa, version, str(torch.get_num_threads()))


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _as_bytes(choice: Choice, model: LanguageModel) -> bytes:
    return json.dumps(
        {
            "weights": choice.weights,
            "milliseconds": dict(choice.milliseconds),
            "at_least": dict(choice.at_least),
            "others": choice.others,
            "source": model.source,
            "reason": model.weights_reason,
            "processor": processor_key(),
        }
    ).encode()


def _read(path: Path, formats: Sequence[Weights]) -> Choice | None:
    """A kept measurement; None when there is none or it is damaged (it is then made again)."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        times: dict[Weights, float] = {w: float(raw["milliseconds"][w]) for w in formats if w in raw["milliseconds"]}
        floors: dict[Weights, float] = {w: float(raw["at_least"][w]) for w in formats if w in raw["at_least"]}
        others = None if raw["others"] is None else float(raw["others"])
        weights: Weights = formats[formats.index(raw["weights"])]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    fits = weights in times if times or floors else len(formats) == 1
    return Choice(weights, times, floors, others) if fits else None
