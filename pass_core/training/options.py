"""How a training run is carried out: its files, its memory, what it starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pass_core.lookahead.embeddings import LookaheadEmbeddings, TrainingSummary
from pass_core.models.language_model import LanguageModel


@dataclass(frozen=True)
class TrainingOptions:
    """How a run is carried out, without any influence on what it computes.

    Attributes:
        out: the look-ahead file to write (the best parts so far, replaced as they improve).
        checkpoint: the run's state; beside `out` when None. That of the state head has a file of its own next to it.
        resume: continue from the checkpoint when there is one.
        memory: bytes for what the frozen model computed for the training sequences.
        command: recorded in the file, to reproduce it.
        init: parts to start from.
        dtype: of the tensors in `out`.
    """

    out: Path
    checkpoint: Path | None = None
    resume: bool = False
    memory: int = 2_000_000_000
    command: str = ""
    init: LookaheadEmbeddings | None = None
    dtype: torch.dtype = torch.bfloat16

    @property
    def checkpoint_path(self) -> Path:
        return self.checkpoint or self.out.with_name(self.out.stem + ".checkpoint")

    @property
    def state_checkpoint_path(self) -> Path:
        """Where the training of the state head keeps its state."""
        path = self.checkpoint_path
        return path.with_name(path.stem + ".state-head" + path.suffix)

    def keep_state_head(self, made: LookaheadEmbeddings) -> LookaheadEmbeddings:
        """`made` with the state head of `init` and its record: it depends on the frozen model alone."""
        if self.init is None or self.init.state is None or made.training is None:
            return made
        known = self.init.training or TrainingSummary()
        training = replace(made.training, state_acceptance=known.state_acceptance, state_command=known.state_command)
        return replace(made, state=self.init.state, training=training)


def check_file(model: LanguageModel, lookahead: LookaheadEmbeddings) -> None:
    """
    Raises:
        LookaheadError: the file is for another model.
    """
    lookahead.check(model)
