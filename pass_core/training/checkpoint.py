"""The run's whole state on disk, written atomically, so that a killed run resumes exactly where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pass_core.files import write_atomically
from pass_core.training.config import TrainingConfig, TrainingError

VERSION = 2  # 1 had another loss, no running mean and no walkers

FITTED_TO_TIME = ("steps", "evaluate_every", "evaluate_contexts", "bigrams")  # of a run with a time limit


@dataclass
class RunState:
    """What a checkpoint holds.

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
        walkers: [sequences, walkers] where simulated decoding is in each text.
        spent: seconds of the time limit that are used up.
    """

    config: TrainingConfig
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

    def check(self, path: Path, asked: TrainingConfig, fingerprint: str, data: str) -> None:
        """
        Raises:
            TrainingError: this is the state of another run than the one that is asked for.
        """
        if self.fingerprint != fingerprint:
            raise TrainingError(f"The checkpoint {path} is of another model. Load that model, or start a new run.")
        if self.data != data:
            raise TrainingError(f"The checkpoint {path} was made with other data. Use the same data, or a new run.")
        fitted = FITTED_TO_TIME if asked.minutes else ()
        different = [
            f
            for f in TrainingConfig.__dataclass_fields__
            if f not in fitted and getattr(asked, f) != getattr(self.config, f)
        ]
        if different:
            raise TrainingError(
                f"The checkpoint {path} was made with other settings ({', '.join(different)}). "
                "Repeat them, or start a new run with --init and the file it made."
            )


def data_digest(sequences: list[torch.Tensor], held_out: list[torch.Tensor]) -> str:
    """16 hex digits over the token ids of both sets."""
    digest = hashlib.sha256()
    for group in (sequences, held_out):
        digest.update(len(group).to_bytes(8, "little"))
        for ids in group:
            digest.update(ids.to(torch.int64).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_checkpoint(path: Path, state: RunState) -> None:
    """Write `state` atomically.

    Raises:
        WriteError: the checkpoint of before is unchanged.
    """
    content = {
        "version": VERSION,
        "config": json.dumps(state.config.to_json()),
        **{k: getattr(state, k) for k in RunState.__dataclass_fields__ if k != "config"},
    }
    write_atomically(path, lambda file: torch.save(content, file))


def load_checkpoint(path: Path) -> RunState:
    """Read a checkpoint (tensors and plain values only).

    Raises:
        TrainingError: there is none, it is damaged, or a newer version wrote it.
    """
    if not path.is_file():
        raise TrainingError(f"There is no checkpoint {path}. Start the run without --resume.")
    try:
        raw: Any = torch.load(path, map_location="cpu", weights_only=True)
        version = int(raw["version"])
        fields = {k: raw[k] for k in RunState.__dataclass_fields__ if k != "config"} if version == VERSION else {}
        config = TrainingConfig.from_json(json.loads(raw["config"]))
    except Exception as error:  # torch and zipfile raise many kinds here, all meaning an unreadable file
        raise TrainingError(f"The checkpoint {path} cannot be read ({error}). Delete it and start again.") from error
    if version > VERSION:
        raise TrainingError(f"The checkpoint {path} was written by a newer version. Update the program.")
    if version < VERSION:
        raise TrainingError(
            f"The checkpoint {path} was written by an older version, whose loss was another. "
            "Start a new run with --init and the file that it made."
        )
    return RunState(config=config, **fields)
