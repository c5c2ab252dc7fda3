"""The JSON form of events and runs: versioned, documented in docs/schema.md, an exact round trip.

Every number survives unchanged (Python's shortest float form; NaN and infinities as the strings "nan", "inf", "-inf").
Readers ignore keys that they do not know, so a later writer may add some without a new version; a new version means
that an old reader would misunderstand the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pass_core.decoding.events import (
    Candidate,
    DraftNode,
    DraftSource,
    DraftStatus,
    PrefillInfo,
    Provenance,
    StepEvent,
    StopReason,
    TokenEvent,
)
from pass_core.decoding.summary import Summary, summarize
from pass_core.files import write_atomically
from pass_core.settings import (
    DecodingSettings,
    LookaheadPart,
    SamplingSettings,
    SettingsError,
    StopConditions,
    Strategy,
    Verification,
)

if TYPE_CHECKING:  # torch takes seconds to import, and reading a stored run does not need it
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel

RUN_FORMAT = "pass-run"
SCHEMA_VERSION = 1

JsonDict = dict[str, Any]
E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


class RecordError(ValueError):
    """A run file cannot be read; the message says where and why, and what to do."""


class NotARunFile(RecordError):
    """The file is no JSON, or JSON of something else."""


class NewerSchema(RecordError):
    """The file was written by a newer version of the program."""


class BrokenRecord(RecordError):
    """A field is missing, of the wrong type or outside its range; the message names it."""


class RunStatus(StrEnum):
    """Whether the recorded steps are all there were."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"  # the program ended before the run did


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model made a run: name and source as in LanguageModel, fingerprint of the weights."""

    name: str = ""
    source: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class LookaheadInfo:
    """Which look-ahead embeddings made a run: origin (path or label), 16 hex digits over the tensors, L."""

    origin: str = ""
    hash: str = ""
    count: int = 0
    trained: bool = False


@dataclass(frozen=True, slots=True)
class Environment:
    """What a run was made with: versions, device ("cpu", "cuda:0") and its name, dtype ("bfloat16"), CPU threads."""

    program: str = ""
    python: str = ""
    torch: str = ""
    transformers: str = ""
    system: str = ""
    device: str = ""
    device_name: str = ""
    dtype: str = ""
    threads: int = 0


@dataclass(frozen=True)
class RunRecord:
    """One generation with all that is needed to show it again or to repeat it.

    Attributes:
        id: unique, 32 hex digits.
        created: when it began (UTC).
        title: what a person calls it; "" until named.
        prompt: the text given to the model, chat template included.
        typed: what the user typed where a chat template made the prompt of it, else None.
        seed, settings, stop: as given at the start (each step carries the settings then in force).
        model, lookahead, environment: what made it; lookahead is None where no drafts were asked for.
        steps: every step event, in order.
        status: running, finished or interrupted.
        group: the same for all runs of one comparison, "" outside of one.
    """

    id: str
    created: datetime
    prompt: str
    seed: int
    settings: DecodingSettings
    stop: StopConditions = field(default_factory=StopConditions)
    title: str = ""
    typed: str | None = None
    model: ModelInfo = ModelInfo()
    lookahead: LookaheadInfo | None = None
    environment: Environment = Environment()
    steps: tuple[StepEvent, ...] = field(default=(), repr=False)
    status: RunStatus = RunStatus.FINISHED
    group: str = ""

    @property
    def text(self) -> str:
        """The generated text, without the stop string that ended it."""
        text = "".join(t.text for s in self.steps for t in s.tokens)
        overlap = self.steps[-1].stop_overlap if self.steps else 0
        return text[: len(text) - overlap] if overlap else text

    @property
    def summary(self) -> Summary:
        """Totals, folded anew from the steps."""
        return summarize(self.steps)


def new_record(
    model: LanguageModel,
    prompt: str,
    settings: DecodingSettings,
    *,
    seed: int,
    stop: StopConditions | None = None,
    lookahead: LookaheadEmbeddings | None = None,
    typed: str | None = None,
    title: str = "",
    group: str = "",
    steps: Iterable[StepEvent] = (),
    status: RunStatus = RunStatus.FINISHED,
) -> RunRecord:
    """A record of a run that starts now with these parts (or has just ended with these steps)."""
    return RunRecord(
        id=uuid.uuid4().hex,
        created=datetime.now(UTC),
        title=title,
        prompt=prompt,
        typed=typed,
        seed=seed,
        settings=settings,
        stop=stop or StopConditions(),
        model=ModelInfo(model.name, model.source, model.fingerprint),
        lookahead=None if lookahead is None else describe_lookahead(lookahead),
        environment=describe_environment(model),
        steps=tuple(steps),
        status=status,
        group=group,
    )


def describe_lookahead(lookahead: LookaheadEmbeddings) -> LookaheadInfo:
    """Origin, hash over all tensors (names, shapes, values rounded to float32) and L."""
    digest = hashlib.sha256()
    for name, tensor in sorted(lookahead.tensors().items()):
        digest.update(f"{name}{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return LookaheadInfo(lookahead.origin, digest.hexdigest()[:16], lookahead.count, lookahead.trained)


def describe_environment(model: LanguageModel) -> Environment:
    """Versions, device and dtype as they are now."""
    import torch
    import transformers

    device = model.device
    module = torch.get_device_module(device)
    named = getattr(module, "get_device_name", None) if device.type != "cpu" else None
    return Environment(
        program=_program_version(),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        system=platform.platform(),
        device=str(device),
        device_name=str(named(device)) if named is not None else _processor_name(),
        dtype=str(model.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
    )


def _program_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pass-playground")
    except PackageNotFoundError:
        return ""


def _processor_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor()


# --- writing ---------------------------------------------------------------------------------------------------------


def _number(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity; they go as strings so that other readers do not choke."""
    return value if value is None or math.isfinite(value) else str(value)


def settings_to_dict(settings: DecodingSettings) -> JsonDict:
    """Flat: temperature and top_k stand beside the rest."""
    return {
        "strategy": settings.strategy.value,
        "k": settings.k,
        "temperature": settings.sampling.temperature,
        "top_k": settings.sampling.top_k,
        "verification": settings.verification.value,
        "auto": settings.auto,
        "row_budget": settings.row_budget,
        "prompt_lookup": settings.prompt_lookup,
        "disabled_parts": sorted(p.value for p in settings.disabled_parts),
    }


def stop_to_dict(stop: StopConditions) -> JsonDict:
    return {
        "max_new_tokens": stop.max_new_tokens,
        "stop_strings": list(stop.stop_strings),
        "ignore_eos": stop.ignore_eos,
    }


def candidate_to_dict(candidate: Candidate) -> JsonDict:
    return {
        "id": candidate.id,
        "text": candidate.text,
        "p_target": _number(candidate.p_target),
        "p_draft": _number(candidate.p_draft),
        "noise": _number(candidate.noise),
    }


def token_to_dict(token: TokenEvent) -> JsonDict:
    """`bytes_hex` carries the exact bytes, two hex digits each."""
    return {
        "index": token.index,
        "id": token.id,
        "text": token.text,
        "bytes_hex": token.bytes.hex(),
        "provenance": token.provenance.value,
        "draft_position": token.draft_position,
        "p_target": _number(token.p_target),
        "p_draft": _number(token.p_draft),
        "source": None if token.source is None else token.source.value,
        "uniform": _number(token.uniform),
        "top": [candidate_to_dict(c) for c in token.top],
    }


def draft_to_dict(draft: DraftNode) -> JsonDict:
    return {
        "index": draft.index,
        "parent": draft.parent,
        "depth": draft.depth,
        "id": draft.id,
        "text": draft.text,
        "p_target": _number(draft.p_target),
        "p_draft": _number(draft.p_draft),
        "noise": _number(draft.noise),
        "uniform": _number(draft.uniform),
        "source": draft.source.value,
        "status": draft.status.value,
    }


def step_to_dict(step: StepEvent) -> JsonDict:
    prefill = step.prefill
    return {
        "index": step.index,
        "tokens": [token_to_dict(t) for t in step.tokens],
        "drafts": [draft_to_dict(d) for d in step.drafts],
        "calls": step.calls,
        "rows": list(step.rows),
        "lookahead_rows": step.lookahead_rows,
        "seconds": _number(step.seconds),
        "forward_seconds": _number(step.forward_seconds),
        "settings": settings_to_dict(step.settings),
        "context_length": step.context_length,
        "reason": step.reason,
        "prefill": None
        if prefill is None
        else {"prompt_tokens": prefill.prompt_tokens, "seconds": _number(prefill.seconds), "calls": prefill.calls},
        "stop_reason": None if step.stop_reason is None else step.stop_reason.value,
        "stop_overlap": step.stop_overlap,
    }


def header_to_dict(record: RunRecord) -> JsonDict:
    """Everything of a run but its steps and summary."""
    lookahead = record.lookahead
    return {
        "format": RUN_FORMAT,
        "schema_version": SCHEMA_VERSION,
        "id": record.id,
        "created": record.created.isoformat(),
        "title": record.title,
        "status": record.status.value,
        "group": record.group,
        "prompt": record.prompt,
        "typed": record.typed,
        "seed": record.seed,
        "settings": settings_to_dict(record.settings),
        "stop": stop_to_dict(record.stop),
        "model": {f: getattr(record.model, f) for f in ModelInfo.__dataclass_fields__},
        "lookahead": None
        if lookahead is None
        else {f: getattr(lookahead, f) for f in LookaheadInfo.__dataclass_fields__},
        "environment": {f: getattr(record.environment, f) for f in Environment.__dataclass_fields__},
    }


def record_to_dict(record: RunRecord) -> JsonDict:
    """The whole run; `text` and `summary` are for other readers and are worked out anew on import."""
    return header_to_dict(record) | {
        "text": record.text,
        "summary": {k: _number(v) if isinstance(v, float) else v for k, v in record.summary.as_dict().items()},
        "steps": [step_to_dict(s) for s in record.steps],
    }


def dumps_record(record: RunRecord) -> str:
    """JSON text of a run."""
    return json.dumps(record_to_dict(record), allow_nan=False)


def save_record(record: RunRecord, path: str | Path) -> None:
    """Write a run file atomically, for the user's eyes only: it holds prompts.

    Raises:
        WriteError: with the reason.
    """
    write_atomically(path, dumps_record(record) + "\n", private=True)


# --- reading ---------------------------------------------------------------------------------------------------------


class _Fields:
    """One JSON object being read: typed access, and errors that name the field's full path."""

    def __init__(self, raw: object, path: str) -> None:
        if not isinstance(raw, Mapping):
            raise _broken(path or "the top level", "an object with named fields", raw)
        self._raw = cast(Mapping[str, object], raw)
        self._path = path

    def where(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def raw(self, key: str) -> object:
        if key not in self._raw:
            raise BrokenRecord(f"The run file is broken: “{self.where(key)}” is missing. Export the run again.")
        return self._raw[key]

    def has(self, key: str) -> bool:
        return self._raw.get(key) is not None

    def integer(self, key: str, minimum: int | None = 0) -> int:
        value = self.raw(key)
        if not isinstance(value, int) or isinstance(value, bool) or (minimum is not None and value < minimum):
            wanted = "a whole number" if minimum is None else f"a whole number of at least {minimum}"
            raise _broken(self.where(key), wanted, value)
        return value

    def number(self, key: str) -> float:
        value = self.raw(key)
        if value in ("nan", "inf", "-inf"):
            return float(cast(str, value))
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise _broken(self.where(key), "a number", value)
        return float(value)

    def text(self, key: str) -> str:
        value = self.raw(key)
        if not isinstance(value, str):
            raise _broken(self.where(key), "text", value)
        return value

    def flag(self, key: str) -> bool:
        value = self.raw(key)
        if not isinstance(value, bool):
            raise _broken(self.where(key), "true or false", value)
        return value

    def choice(self, key: str, kind: type[E]) -> E:
        value = self.text(key)
        try:
            return kind(value)
        except ValueError:
            raise _broken(self.where(key), "one of " + ", ".join(m.value for m in kind), value) from None

    def items(self, key: str) -> list[object]:
        value = self.raw(key)
        if not isinstance(value, list):
            raise _broken(self.where(key), "a list", value)
        return cast(list[object], value)

    def objects(self, key: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
        return tuple(read(item, f"{self.where(key)}[{i}]") for i, item in enumerate(self.items(key)))


def _broken(where: str, wanted: str, found: object) -> BrokenRecord:
    shown = json.dumps(found, default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    return BrokenRecord(f"The run file is broken: “{where}” should be {wanted}, but is {shown}. Export the run again.")


def settings_from_dict(raw: object, path: str = "settings") -> DecodingSettings:
    """Raises:
    BrokenRecord: naming the field, the value and the range.
    """
    f = _Fields(raw, path)
    parts = f.items("disabled_parts")
    for part in parts:
        if part not in [p.value for p in LookaheadPart]:
            raise _broken(f.where("disabled_parts"), "a list of " + ", ".join(p.value for p in LookaheadPart), part)
    try:
        return DecodingSettings(
            strategy=f.choice("strategy", Strategy),
            k=f.integer("k"),
            sampling=SamplingSettings(f.number("temperature"), f.integer("top_k")),
            verification=f.choice("verification", Verification),
            auto=f.flag("auto"),
            row_budget=f.integer("row_budget", 1) if f.has("row_budget") else None,
            prompt_lookup=f.flag("prompt_lookup"),
            disabled_parts=frozenset(LookaheadPart(p) for p in parts),
        )
    except SettingsError as error:
        raise BrokenRecord(f"The run file is broken: in “{path}”, {error}.") from error


def stop_from_dict(raw: object, path: str = "stop") -> StopConditions:
    f = _Fields(raw, path)
    strings = f.items("stop_strings")
    if not all(isinstance(s, str) for s in strings):
        raise _broken(f.where("stop_strings"), "a list of texts", strings)
    try:
        return StopConditions(
            max_new_tokens=f.integer("max_new_tokens", 1),
            stop_strings=tuple(cast(list[str], strings)),
            ignore_eos=f.flag("ignore_eos"),
        )
    except SettingsError as error:
        raise BrokenRecord(f"The run file is broken: in “{path}”, {error}.") from error


def candidate_from_dict(raw: object, path: str = "candidate") -> Candidate:
    f = _Fields(raw, path)
    return Candidate(
        id=f.integer("id"),
        text=f.text("text"),
        p_target=f.number("p_target"),
        p_draft=f.number("p_draft") if f.has("p_draft") else None,
        noise=f.number("noise") if f.has("noise") else None,
    )


def token_from_dict(raw: object, path: str = "token") -> TokenEvent:
    f = _Fields(raw, path)
    try:
        exact = bytes.fromhex(f.text("bytes_hex"))
    except ValueError:
        raise _broken(f.where("bytes_hex"), "pairs of hexadecimal digits", f.raw("bytes_hex")) from None
    return TokenEvent(
        index=f.integer("index"),
        id=f.integer("id"),
        bytes=exact,
        text=f.text("text"),
        provenance=f.choice("provenance", Provenance),
        draft_position=f.integer("draft_position", 1) if f.has("draft_position") else None,
        p_target=f.number("p_target"),
        p_draft=f.number("p_draft") if f.has("p_draft") else None,
        source=f.choice("source", DraftSource) if f.has("source") else None,
        top=f.objects("top", candidate_from_dict),
        uniform=f.number("uniform") if f.has("uniform") else None,
    )


def draft_from_dict(raw: object, path: str = "draft") -> DraftNode:
    f = _Fields(raw, path)
    return DraftNode(
        index=f.integer("index"),
        parent=f.integer("parent") if f.has("parent") else None,
        depth=f.integer("depth", 1),
        id=f.integer("id"),
        text=f.text("text"),
        p_target=f.number("p_target") if f.has("p_target") else None,
        p_draft=f.number("p_draft") if f.has("p_draft") else None,
        noise=f.number("noise") if f.has("noise") else None,
        uniform=f.number("uniform") if f.has("uniform") else None,
        source=f.choice("source", DraftSource),
        status=f.choice("status", DraftStatus),
    )


def _prefill_from_dict(raw: object, path: str) -> PrefillInfo:
    f = _Fields(raw, path)
    return PrefillInfo(f.integer("prompt_tokens"), f.number("seconds"), f.integer("calls"))


def step_from_dict(raw: object, path: str = "step") -> StepEvent:
    f = _Fields(raw, path)
    rows = f.items("rows")
    if not all(isinstance(r, int) and not isinstance(r, bool) for r in rows):
        raise _broken(f.where("rows"), "a list of whole numbers", rows)
    return StepEvent(
        index=f.integer("index"),
        tokens=f.objects("tokens", token_from_dict),
        drafts=f.objects("drafts", draft_from_dict),
        calls=f.integer("calls"),
        rows=tuple(cast(list[int], rows)),
        lookahead_rows=f.integer("lookahead_rows"),
        seconds=f.number("seconds"),
        forward_seconds=f.number("forward_seconds"),
        settings=settings_from_dict(f.raw("settings"), f.where("settings")),
        context_length=f.integer("context_length"),
        reason=f.text("reason"),
        prefill=_prefill_from_dict(f.raw("prefill"), f.where("prefill")) if f.has("prefill") else None,
        stop_reason=f.choice("stop_reason", StopReason) if f.has("stop_reason") else None,
        stop_overlap=f.integer("stop_overlap") if f.has("stop_overlap") else 0,
    )


def _model_from_dict(raw: object, path: str) -> ModelInfo:
    f = _Fields(raw, path)
    return ModelInfo(f.text("name"), f.text("source"), f.text("fingerprint"))


def _lookahead_from_dict(raw: object, path: str) -> LookaheadInfo:
    f = _Fields(raw, path)
    return LookaheadInfo(f.text("origin"), f.text("hash"), f.integer("count"), f.flag("trained"))


def _environment_from_dict(raw: object, path: str) -> Environment:
    f = _Fields(raw, path)
    return Environment(
        program=f.text("program"),
        python=f.text("python"),
        torch=f.text("torch"),
        transformers=f.text("transformers"),
        system=f.text("system"),
        device=f.text("device"),
        device_name=f.text("device_name"),
        dtype=f.text("dtype"),
        threads=f.integer("threads"),
    )


def header_from_dict(raw: object) -> RunRecord:
    """A run without its steps.

    Raises:
        RecordError: a subclass that names what is wrong.
    """
    if not isinstance(raw, Mapping) or cast(Mapping[str, object], raw).get("format") != RUN_FORMAT:
        raise NotARunFile(
            f"This is not a run file: “format” is not “{RUN_FORMAT}”. Choose a file that was exported as JSON from "
            "the History page or by the generate command's --json."
        )
    f = _Fields(cast(object, raw), "")
    version = f.integer("schema_version", 1)
    if version > SCHEMA_VERSION:
        raise NewerSchema(
            f"This run file has schema version {version}, and this program reads versions up to {SCHEMA_VERSION}. "
            "Update PASS Playground to open it."
        )
    try:
        created = datetime.fromisoformat(f.text("created"))
    except ValueError:
        raise _broken("created", "a date and time such as 2026-01-31T12:00:00+00:00", f.raw("created")) from None
    return RunRecord(
        id=f.text("id"),
        created=created if created.tzinfo is not None else created.replace(tzinfo=UTC),
        title=f.text("title"),
        status=f.choice("status", RunStatus),
        group=f.text("group"),
        prompt=f.text("prompt"),
        typed=f.text("typed") if f.has("typed") else None,
        seed=f.integer("seed", None),
        settings=settings_from_dict(f.raw("settings")),
        stop=stop_from_dict(f.raw("stop")),
        model=_model_from_dict(f.raw("model"), "model"),
        lookahead=_lookahead_from_dict(f.raw("lookahead"), "lookahead") if f.has("lookahead") else None,
        environment=_environment_from_dict(f.raw("environment"), "environment"),
    )


def record_from_dict(raw: object) -> RunRecord:
    """Raises:
    RecordError: a subclass that names what is wrong.
    """
    header = header_from_dict(raw)
    return replace(header, steps=_Fields(raw, "").objects("steps", step_from_dict))


def loads_record(text: str) -> RunRecord:
    """Raises:
    RecordError: a subclass that names what is wrong.
    """
    try:
        raw: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotARunFile(f"This is not a run file, or it is cut short: it is no valid JSON ({error}).") from error
    return record_from_dict(raw)


def load_record(path: str | Path) -> RunRecord:
    """Read a run file.

    Raises:
        RecordError: a subclass that names what is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise NotARunFile(f"{path.name} is not a run file: it is no UTF-8 text.") from error
    except OSError as error:
        raise NotARunFile(f"{path} cannot be read: {error.strerror or error}. Choose another file.") from error
    return loads_record(text)
