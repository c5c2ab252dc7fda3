"""A run, or the present choices, as the command that does the same without a window."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from app.state.setup import GenerationSetup, setup_of
from pass_core.records.runs import RunRecord
from pass_core.settings import Strategy

if TYPE_CHECKING:
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel

PROGRAM = ("python", "-m", "pass_core", "generate")
DTYPES = ("float32", "bfloat16", "float16")


def command_of_setup(setup: GenerationSetup, model: LanguageModel, lookahead: LookaheadEmbeddings | None) -> str:
    """The command that does what Run would do now."""
    made_of = _made_of(model.source, str(model.device), str(model.dtype).removeprefix("torch."))
    weights = model.quantization or (model.weights if model.weights in ("gguf", "int8") else "")
    if weights:
        made_of += ["--quantize", weights]
    drafts = None if lookahead is None else (lookahead.origin, lookahead.trained)
    return quoted([*PROGRAM, *made_of, *_choices(setup, drafts)])


def command_of_record(record: RunRecord) -> str:
    """The command that repeats a run; quantised weights are not part of a record, and neither of its command."""
    drafts = None if record.lookahead is None else (record.lookahead.origin, record.lookahead.trained)
    made_of = _made_of(record.model.source, record.environment.device, record.environment.dtype)
    return quoted([*PROGRAM, *made_of, *_choices(setup_of(record), drafts)])


def quoted(arguments: Sequence[str], *, windows: bool = os.name == "nt") -> str:
    """One line for a POSIX shell, or for PowerShell."""
    if not windows:
        return shlex.join(arguments)
    return " ".join(a if shlex.quote(a) == a else "'" + a.replace("'", "''") + "'" for a in arguments)


def _made_of(source: str, device: str, dtype: str) -> list[str]:
    out = ["--model", source] if source else []
    out += ["--device", device] if device else []
    return out + (["--dtype", dtype] if dtype in DTYPES else [])


def _choices(setup: GenerationSetup, drafts: tuple[str, bool] | None) -> Iterator[str]:
    s, stop = setup.baseline or setup.settings, setup.stop
    yield from ("--strategy", s.strategy.value, "-k", str(s.k))
    if drafts is not None and s.strategy.uses_lookahead:
        origin, trained = drafts
        yield from ("--embeddings", origin if trained else "untrained")
    yield from ("--temperature", f"{s.sampling.temperature!r}", "--top-k", str(s.sampling.top_k))
    if s.sampling.top_p < 1.0:
        yield from ("--top-p", f"{s.sampling.top_p!r}")
    if s.sampling.min_p:
        yield from ("--min-p", f"{s.sampling.min_p!r}")
    yield from ("--seed", str(setup.seed % 2**64), "--max-new-tokens", str(stop.max_new_tokens))
    yield from ("--verification", s.verification.value)
    if s.strategy is Strategy.FUSED:
        yield "--auto" if s.auto else "--no-auto"
        if s.row_budget is not None:
            yield from ("--row-budget", str(s.row_budget))
        if s.prompt_lookup:
            yield "--prompt-lookup"
    for part in sorted(s.disabled_parts):
        yield from ("--disable-part", part.value)
    for text in stop.stop_strings:
        yield from ("--stop", text)
    if stop.ignore_eos:
        yield "--ignore-eos"
    if setup.messages:
        from pass_core.cli.chat import as_json

        yield from ("--messages", as_json(setup.messages))
        return
    if setup.chat:
        yield "--chat"
    yield from ("--prompt", setup.prompt_text)
