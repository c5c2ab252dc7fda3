"""`generate`: stream a text from the engine's events: coloured, plain, or as one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pass_core.cli.chat import MESSAGES_HELP, chat_of
from pass_core.cli.console import INTERRUPTED, note, read_standard_input, stderr_console
from pass_core.cli.interrupt import interrupt_cancels
from pass_core.cli.measuring import EMBEDDING_HELP, check_files, load_embeddings, load_with_progress
from pass_core.cli.own_code import consent
from pass_core.cli.token_text import PlainText, StyledText, without_controls
from pass_core.models.own_code import SWITCH
from pass_core.progress import CancelToken
from pass_core.prompt import Prompt
from pass_core.settings import (
    MAX_TEMPERATURE,
    MAX_TOP_K,
    Baseline,
    BaselineSettings,
    DecodingSettings,
    LookaheadPart,
    RunSettings,
    SamplingSettings,
    SettingsError,
    StopConditions,
    Strategy,
    Verification,
    method_named,
)
from pass_core.text import well_formed

if TYPE_CHECKING:
    from pass_core.decoding.events import StepEvent
    from pass_core.decoding.summary import Summary
    from pass_core.engine import Engine
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel


class Dtype(str, Enum):  # noqa: UP042 (typer shows the values of either)
    """Weights' dtype."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class MethodName(str, Enum):  # noqa: UP042
    """The engine's strategies, and the baselines that it is compared with."""

    autoregressive = Strategy.AUTOREGRESSIVE.value
    two_call = Strategy.TWO_CALL.value
    fused = Strategy.FUSED.value
    transformers = Baseline.TRANSFORMERS.value


class Quantize(str, Enum):  # noqa: UP042
    """Weights of the layers."""

    none = "none"
    gguf = "gguf"
    int8 = "int8"
    int4 = "int4"


TOP_P_HELP = "Then the fewest likeliest tokens whose probabilities add up to it are kept; 1 is off."
MIN_P_HELP = "Then tokens with at least this share of the likeliest one's probability are kept; 0 is off."
QUANTIZE_HELP = (
    "Weights: gguf takes a GGUF file's own blocks (CPU); int8 rounds to 8 bits (off the CPU by the extra “quant”), "
    "int4 to 4 (CUDA, extra “quant”)."
)


def generate(
    prompt: Annotated[
        str | None, typer.Option(help="The text to continue; “-” or a pipe reads standard input.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Catalog name, Hugging Face id, folder or GGUF file.")] = None,
    embeddings: Annotated[str, typer.Option(help=EMBEDDING_HELP)] = "best",
    strategy: Annotated[MethodName | None, typer.Option(help="How tokens are produced.", show_default="pass")] = None,
    verification: Annotated[Verification, typer.Option(help="Rule that accepts drafts.")] = Verification.COUPLED,
    k: Annotated[int, typer.Option("--k", "-k", help="Look-ahead steps in use; 0 is plain decoding.")] = 5,
    temperature: Annotated[float, typer.Option(help=f"0 (greedy) to {MAX_TEMPERATURE:g}.")] = 0.8,
    top_k: Annotated[int, typer.Option(help=f"Tokens kept, 1 to {MAX_TOP_K}; 0 keeps all.")] = 10,
    top_p: Annotated[float, typer.Option(help=TOP_P_HELP)] = 1.0,
    min_p: Annotated[float, typer.Option(help=MIN_P_HELP)] = 0.0,
    seed: Annotated[int, typer.Option(help="Same seed, same text with every strategy (coupled rule).")] = 0,
    max_new_tokens: Annotated[int, typer.Option(help="The most new tokens.")] = 256,
    stop: Annotated[list[str] | None, typer.Option(help="End right before this text (may be repeated).")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Continue past the end-of-sequence token.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="Put the prompt into the model's chat template.")] = False,
    system: Annotated[str, typer.Option(help="The system message of a chat; chooses --chat.")] = "",
    messages: Annotated[str | None, typer.Option(help=MESSAGES_HELP)] = None,
    prompt_lookup: Annotated[
        bool, typer.Option("--prompt-lookup", help="Also draft from matches in the text so far (pass only).")
    ] = False,
    auto: Annotated[
        bool, typer.Option("--auto/--no-auto", help="Let the engine choose tree and budget by measured costs.")
    ] = True,
    row_budget: Annotated[int | None, typer.Option(help="The most rows of a forward pass (pass only).")] = None,
    disable_part: Annotated[
        list[LookaheadPart] | None, typer.Option(help="Draft without this part (may be repeated).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 … or mps.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Dtype of the weights.")] = Dtype.auto,
    quantize: Annotated[Quantize, typer.Option(help=QUANTIZE_HELP)] = Quantize.none,
    trust_remote_code: Annotated[
        bool, typer.Option(SWITCH, help="Run Python code from the model's folder, after you typed its name.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the text.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, notes, legend or summary.")] = False,
) -> None:
    """Generate text and show how every token came to be.

    On a terminal each token has the colour and underline of its provenance; a pipe gets the text alone.
    """
    method = Strategy.FUSED if strategy is None else method_named(strategy.value)
    sampling = SamplingSettings(temperature, top_k, top_p, min_p)
    settings: RunSettings
    if isinstance(method, Baseline):
        settings = BaselineSettings(method, k, sampling)
    else:
        settings = DecodingSettings(
            strategy=method,
            k=k,
            sampling=sampling,
            verification=verification,
            auto=auto,
            row_budget=row_budget,
            prompt_lookup=prompt_lookup,
            disabled_parts=frozenset(disable_part or ()),
        )
    conditions = StopConditions(max_new_tokens, tuple(well_formed(s) for s in stop or ()), ignore_eos)
    source = chat_of(messages) if messages is not None else None
    if source is None:
        source = Prompt(_prompt_text(prompt), chat=chat or bool(system), system=well_formed(system))
    elif prompt is not None or system:
        raise SettingsError("--messages holds the whole chat. Leave out --prompt and --system.")
    seed %= 2**64
    if settings.strategy.uses_lookahead and settings.k:
        check_files([embeddings])
    own_code = trust_remote_code and consent(model)
    cancel = CancelToken()
    with interrupt_cancels(cancel):
        engine = load_with_progress(model, device, dtype.value, cancel, quiet, quantize.value, own_code)
        if engine.model.weights_reason and not quiet:
            note(f"{engine.model.name} computes with {engine.model.weights_reason}.")
        settings = _possible(settings, strategy is not None, engine.model, quiet)
        lookahead = _lookahead(embeddings, engine, settings, quiet, cancel)
        _Run(engine, lookahead, settings, conditions, seed, source).show(cancel, as_json, quiet)
    if cancel.cancelled:
        raise typer.Exit(INTERRUPTED)


class _Run:
    """One generation and its three ways to be shown."""

    def __init__(
        self,
        engine: Engine,
        lookahead: LookaheadEmbeddings | None,
        settings: RunSettings,
        conditions: StopConditions,
        seed: int,
        prompt: Prompt,
    ) -> None:
        from pass_core.models.prompts import rendered

        self.engine, self.model, self.lookahead, self.settings = engine, engine.model, lookahead, settings
        self.conditions, self.seed, self.prompt = conditions, seed, prompt
        self.typed = prompt.text if prompt.chat else None
        self.messages = prompt.messages if prompt.chat and len(prompt.messages) > 1 else ()
        self.text = rendered(engine.model, prompt)

    def events(self, cancel: CancelToken) -> Iterator[StepEvent]:
        from pass_core.evaluation.baselines.decoders import decoder_for

        return decoder_for(self.engine, self.settings, self.lookahead).decode(
            self.prompt,
            stop=self.conditions,
            seed=self.seed,
            cancelled=lambda: cancel.cancelled,
        )

    def show(self, cancel: CancelToken, as_json: bool, quiet: bool) -> None:
        from pass_core.cli.console import stdout_console
        from pass_core.decoding.summary import SummaryBuilder

        if as_json:
            steps = list(self.events(cancel))
            sys.stdout.write(json.dumps(self._as_dict(steps), ensure_ascii=False, allow_nan=False) + "\n")
            return
        console = stdout_console()
        writer = StyledText(console, self.conditions.stop_strings) if console.is_terminal else None
        plain = PlainText(sys.stdout, self.conditions.stop_strings)
        builder = SummaryBuilder()
        steps: list[StepEvent] = []
        if writer is not None and self.typed is None and not quiet:
            console.print(without_controls(self.text), end="", style="dim", markup=False)
        for step in self.events(cancel):
            builder.add(step)
            steps.append(step)
            (writer or plain).add(step)
        (writer or plain).finish()
        if not quiet:
            summary = builder.summary()
            if writer is not None:
                writer.legend(summary.provenance, summary.sources)
            stderr_console().print(self._line(summary, self._hash(steps)), style="dim", markup=False)

    def _as_dict(self, steps: list[StepEvent]) -> dict[str, Any]:
        """A run file (the window's history opens it), with all tokens in one list besides."""
        from pass_core.records.runs import new_record, record_to_dict, token_to_dict

        record = new_record(
            self.model,
            self.text,
            self.settings,
            seed=self.seed,
            stop=self.conditions,
            lookahead=self.lookahead,
            typed=self.typed,
            messages=self.messages,
            steps=steps,
        )
        tokens = [t for s in steps for t in s.tokens]
        text = "".join(t.text for t in tokens)
        overlap = steps[-1].stop_overlap if steps else 0
        out: dict[str, Any] = record_to_dict(record)
        out["text"] = text[: len(text) - overlap]
        out["text_hash"] = self._hash(steps)
        out["tokens"] = [token_to_dict(t) for t in tokens]
        out["summary"] |= {
            "device": str(self.model.device),
            "dtype": _dtype_name(self.model),
            "weights": self.model.weights_reason,
            "seed": self.seed,
            "model": self.model.name,
            "embeddings": self.lookahead.origin if self.lookahead is not None else None,
        }
        return out

    def _hash(self, steps: list[StepEvent]) -> str:
        from pass_core.records.text_hash import text_hash

        ids = self.engine.encode(self.prompt)
        return text_hash(self.model.fingerprint, ids, steps, seed=self.seed, stop=self.conditions)

    def _line(self, s: Summary, hash: str) -> str:
        parts = [f"{s.new_tokens} tokens", f"{s.tokens_per_second:.1f} tokens/s", f"{s.tokens_per_call:.2f} per call"]
        if s.proposed:
            parts.append(f"{s.accepted} of {s.proposed} drafts accepted ({s.acceptance_rate:.0%})")
        parts.append(f"first token after {s.time_to_first_token:.2f} s")
        parts.append(f"{s.strategy}, {self.model.device}, {_dtype_name(self.model)}, seed {self.seed}")
        parts.append(f"text {hash}")
        parts.append(f"ended: {(s.stop_reason or 'unknown').replace('_', ' ')}")
        return " · ".join(parts)


def _dtype_name(model: LanguageModel) -> str:
    return str(model.dtype).removeprefix("torch.")


def _prompt_text(prompt: str | None) -> str:
    text = well_formed(prompt) if prompt is not None and prompt != "-" else read_standard_input()
    if text is None:
        raise SettingsError("There is no prompt. Give one with --prompt TEXT, or pipe it in.")
    if not text:
        raise SettingsError("The prompt is empty. Write at least one word.")
    return text


def _possible(settings: RunSettings, chosen: bool, model: LanguageModel, quiet: bool) -> RunSettings:
    """Where nobody asked for a strategy, a model that cannot draft decodes plainly; asked for, it is an error."""
    from dataclasses import replace

    if model.capabilities.supports_pass or chosen:
        return settings
    if not quiet:
        note(f"{model.name} decodes plainly: {model.capabilities.reason}")
    return replace(settings, strategy=Strategy.AUTOREGRESSIVE)


def _lookahead(
    choice: str, engine: Engine, settings: RunSettings, quiet: bool, cancel: CancelToken
) -> LookaheadEmbeddings | None:
    if not settings.strategy.uses_lookahead or settings.k == 0 or not engine.model.capabilities.supports_pass:
        return None
    _, lookahead = load_embeddings(choice, engine, cancel, quiet, settings.disabled_parts)
    if settings.k > lookahead.count and not settings.prompt_lookup and not quiet:
        note(f"k = {settings.k} is more than the embeddings have (L = {lookahead.count}): using {lookahead.count}.")
    return lookahead
