"""The run's whole state on disk, written atomically, so that a killed run resumes exactly where it was."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from pass_core.files import write_atomically
from pass_core.training.config import RunConfig, TrainingConfig, TrainingError

VERSION = 2  # 1 had another loss, no running mean and no walkers

Config = TypeVar("Config", bound=RunConfig)


@dataclass
class RunState(Generic[Config]):
    """What a checkpoint holds, whatever learns.

    Attributes:
        config: the run's settings (with the step count that minutes were turned into).
        fingerprint: of the model.
        data: digest of the training and held-out sequences.
        step: optimiser steps done.
        parts, optimizer: state dicts.
        best_step, best_acceptance: the best held-out result so far, as JSON ("" before the first). Its parts are in the
            look-ahead file.
        worse: evaluations since the best one.
        seconds: spent in steps so far.
        mean: the running mean of the parts.
        walkers: [sequences, walkers] where simulated decoding is in each text; [0, 0] where nothing walks.
        spent: seconds of the time limit that are used up.
        evaluation_seconds: of the last evaluation.
    """

    config: Config
    fingerprint: str
    data: str
    step: int
    parts: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    best_step: int
    best_acceptance: str
    worse: int
    seconds: float
    mean: dict[str, torch.Tensor]
    walkers: torch.Tensor
    spent: float
    evaluation_seconds: float = 0.0

    def check(self, path: Path, asked: Config, fingerprint: str, data: str, out: Path) -> None:
        """
        Args:
            out: the look-ahead file of the run.

        Raises:
            TrainingError: this is the state of another run than the one that is asked for, or its file is gone.
        """
        if self.fingerprint != fingerprint:
            raise TrainingError(f"The checkpoint {path} is of another model. Load that model, or start a new run.")
        if self.data != data:
            raise TrainingError(f"The checkpoint {path} was made with other data. Use the same data, or a new run.")
        if different := asked.differing(self.config):
            raise TrainingError(
                f"The checkpoint {path} was made with other settings ({', '.join(different)}). "
                "Repeat them, or start a new run with --init and the file it made."
            )
        if self.best_step >= 0 and not out.is_file():
            raise TrainingError(
                f"{out} is gone: it held the best result of the run that {path} would continue. Put it back, or start "
                "a new run."
            )


def data_digest(sequences: list[torch.Tensor], held_out: list[torch.Tensor]) -> str:
    """16 hex digits over the token ids of both sets."""
    digest = hashlib.sha256()
    for group in (sequences, held_out):
        digest.update(len(group).to_bytes(8, "little"))
        for ids in group:
            digest.update(ids.to(torch.int64).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_checkpoint(path: Path, state: RunState[Any]) -> None:
    """Write `state` atomically.

    Raises:
        WriteError: the checkpoint of before is unchanged.
    """
    content = {
        "version": VERSION,
        "phase": state.config.PHASE,
        "config": json.dumps(state.config.to_json()),
        **{k: getattr(state, k) for k in RunState.__dataclass_fields__ if k != "config"},
    }
    write_atomically(path, lambda file: torch.save(content, file))


def forget_checkpoint(path: Path) -> None:
    """Remove what an earlier run left: a new run that is killed before its own first checkpoint must not be resumed
    from another's."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def load_checkpoint(path: Path, config: type[Config] = TrainingConfig) -> RunState[Config]:
    """Read a checkpoint (tensors and plain values only).

    Args:
        config: of the phase whose checkpoint it must be.

    Raises:
        TrainingError: there is none, it is damaged or another phase's, or a newer version wrote it.
    """
    if not path.is_file():
        raise TrainingError(f"There is no checkpoint {path}. Start the run without --resume.")
    try:
        raw: Any = torch.load(path, map_location="cpu", weights_only=True)
        version, phase = int(raw["version"]), str(raw.get("phase", TrainingConfig.PHASE))
        ours = version == VERSION and phase == config.PHASE
        fields = {k: raw[k] for k in _FIELDS if k in raw or k not in _LATER} if ours else {}
        asked = config.from_json(json.loads(raw["config"])) if ours else config()
    except Exception as error:  # torch and zipfile raise many kinds here, all meaning an unreadable file
        raise TrainingError(f"The checkpoint {path} cannot be read ({error}). Delete it and start again.") from error
    if version > VERSION:
        raise TrainingError(f"The checkpoint {path} was written by a newer version. Update the program.")
    if version < VERSION:
        raise TrainingError(
            f"The checkpoint {path} was written by an older version, whose loss was another. "
            "Start a new run with --init and the file that it made."
        )
    if not ours:
        raise TrainingError(f"{path} is a checkpoint of the {phase}, not of the {config.PHASE}. Choose another --out.")
    return RunState(config=asked, **fields)


_FIELDS = [k for k in RunState.__dataclass_fields__ if k != "config"]
_LATER = {k for k, field in RunState.__dataclass_fields__.items() if field.default is not MISSING}
