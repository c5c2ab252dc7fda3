"""The automatic weights of the compiled library: measured once on this machine.

Candidates are the formats that hold the checkpoint exactly: a GGUF file's own blocks, float32, and bfloat16 where every
weight of the checkpoint is a bfloat16 number. The choice is the one that is fastest for PASS.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil
import torch

from pass_core.files import cache_folder, keep
from pass_core.models.errors import ModelError
from pass_core.models.gguf_blocks import GgufBlocks
from pass_core.models.language_model import LanguageModel
from pass_core.models.processor import processor_key
from pass_core.runtime.base import Runtime
from pass_core.runtime.native.build import found
from pass_core.runtime.native.formats import Weights
from pass_core.runtime.native.runtime import NativeRuntime

ROWS, TOKENS = 8, 1.6
"""A pass of ROWS rows brings about TOKENS tokens with the shipped drafts, as measured on the default model."""
_ROUNDS = 6
NAMES: dict[str, str] = {"gguf": "the file's own blocks"}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """The measured times and the format that follows from them.

    Attributes:
        weights: the fastest format.
        milliseconds: a token's time by format, in the order of preference; empty where there was only one.
    """

    weights: str
    milliseconds: Mapping[str, float]

    @property
    def reason(self) -> str:
        """One line for people."""
        name = NAMES.get(self.weights, self.weights)
        others = [f"{ms:.1f} in {NAMES.get(w, w)}" for w, ms in self.milliseconds.items() if w != self.weights]
        if not others:
            return f"{name}: no other format is exact for this model here"
        best = self.milliseconds[self.weights]
        return f"{name}: {best:.1f} ms per token against {' and '.join(others)} on this processor"


def automatic_runtime(model: LanguageModel) -> Runtime | None:
    """The compiled runtime with the fastest exact weights, None where none fits into memory.

    Measures where this processor, library and model have no measurement yet (some seconds), and keeps it.
    """
    makers = exact_makers(model)
    if not makers:
        return None
    path = cache_folder() / "weights" / f"{_key(model, tuple(makers))}.json"
    choice = _read(path, tuple(makers))
    runtime: Runtime | None = None
    if choice is None:
        choice, runtime = measure_choice(makers, vocabulary=min(256, model.vocabulary_size))
        keep(path, json.dumps({"weights": choice.weights, "milliseconds": dict(choice.milliseconds)}).encode())
    model.weights_reason = choice.reason
    log.info("weights: %s", choice.reason)
    return runtime or makers[choice.weights]()


def exact_makers(model: LanguageModel) -> dict[str, Callable[[], Runtime]]:
    """How to make a runtime of each exact format that fits into memory, those that take least of it first."""
    free = psutil.virtual_memory().available
    count = model.parameter_count
    makers: dict[str, Callable[[], Runtime]] = {}

    def add(weights: Weights, needed: int, blocks: GgufBlocks | None = None) -> None:
        if needed * 1.2 < free:
            makers[weights] = lambda: NativeRuntime(model, weights=weights, blocks=blocks)

    blocks = blocks_of(model)
    if blocks is not None:
        add("gguf", blocks.nbytes, blocks)
    if is_bfloat16(model):
        add("bfloat16", 2 * count)
    add("float32", 4 * count)
    return makers


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


def measure_choice(makers: Mapping[str, Callable[[], Runtime]], vocabulary: int = 256) -> tuple[Choice, Runtime | None]:
    """Time a few passes of each format, of one row and of `ROWS`; the way that is faster per token counts.

    One runtime is kept in memory at a time, besides the best so far.

    Returns:
        the choice, and its runtime where it was made.
    """
    from pass_core.runtime.cost import measure  # it makes runtimes through the factory, which comes here

    if len(makers) == 1:
        return Choice(next(iter(makers)), {}), None
    times: dict[str, float] = {}
    best: Runtime | None = None
    for weights, make in makers.items():
        runtime = make()
        cost = measure(runtime, rows=(1, ROWS), context=64, repeats=_ROUNDS, vocabulary=vocabulary).seconds
        times[weights] = 1000 * min(cost[1], cost[ROWS] / TOKENS)
        if times[weights] == min(times.values()):
            best = runtime
    return Choice(min(times, key=lambda w: times[w]), times), best


def _key(model: LanguageModel, formats: Sequence[str]) -> str:
    library = found()
    version = library.library.pass_abi_version().decode() if library.library is not None else ""
    words = (
        processor_key(),
        library.isa,
        version,
        model.fingerprint,
        str(torch.get_num_threads()),
        *formats,
    )
    return "1-" + hashlib.sha256("\n".join(words).encode()).hexdigest()[:24]


def _read(path: object, formats: Sequence[str]) -> Choice | None:
    """A kept measurement; None when there is none or it is damaged (it is then made again)."""
    try:
        with open(str(path), encoding="utf-8") as file:
            raw = json.load(file)
        choice = Choice(str(raw["weights"]), {str(k): float(v) for k, v in raw["milliseconds"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    fits = choice.weights in formats and set(choice.milliseconds) <= set(formats)
    return choice if fits and (choice.weights in choice.milliseconds or not choice.milliseconds) else None
