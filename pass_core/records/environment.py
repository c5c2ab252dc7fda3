"""What a run was made with: model, look-ahead embeddings, versions and machine, as they are now."""

from __future__ import annotations

import hashlib
import platform
import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pass_core.decoding.events import StepEvent
from pass_core.prompt import Message
from pass_core.records.types import Environment, LookaheadInfo, ModelInfo, RunRecord, RunStatus
from pass_core.settings import RunSettings, StopConditions

if TYPE_CHECKING:  # torch takes seconds to import, and reading a stored run does not need it
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel


def new_record(
    model: LanguageModel,
    prompt: str,
    settings: RunSettings,
    *,
    seed: int,
    stop: StopConditions | None = None,
    lookahead: LookaheadEmbeddings | None = None,
    typed: str | None = None,
    messages: tuple[Message, ...] = (),
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
        messages=messages,
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
        program=program_version(),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        system=platform.platform(),
        device=str(device),
        device_name=str(named(device)) if named is not None else processor_name(),
        dtype=str(model.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
    )


def program_version() -> str:
    """The version of this program, installed or as its source folder says; "" where neither is known."""
    import tomllib
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pass-playground")
    except PackageNotFoundError:
        pass
    try:
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return ""
    return str(project["version"]) if project.get("name") == "pass-playground" else ""


def processor_name() -> str:
    """The processor as the system calls it, "" where it does not say."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor()
