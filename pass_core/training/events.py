"""What a training run reports; the window, the command line and the tests read nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pass_core.training.acceptance import Acceptance
from pass_core.training.config import TrainingConfig
from pass_core.training.state_figures import StateAcceptance


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take, estimated before it starts.

    Attributes:
        trainable: parameters that learn.
        bytes_working: most memory of a step besides the model (activations, optimiser, losses).
        bytes_kept: memory for what the frozen model computed (bounded by `TrainingOptions.memory`).
        seconds_per_step: mean over the run, from steps measured on this machine, evaluations included.
        steps: optimiser steps of the run (from the minutes, where those were given).
        seconds: everything that is still to do: text, bigrams, steps and evaluations.
        writing_seconds, bigrams_seconds: of it, for text that the model has yet to write and bigrams yet to be read.
        state_seconds: of it, for the state head, which is trained last.
    """

    trainable: int
    bytes_working: int
    bytes_kept: int
    seconds_per_step: float
    steps: int
    seconds: float
    writing_seconds: float = 0.0
    bigrams_seconds: float = 0.0
    state_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """The run begins (or resumes) at `step`."""

    config: TrainingConfig
    estimate: Estimate
    step: int
    train_sequences: int
    held_out_sequences: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """One optimiser step.

    Attributes:
        step, steps: done so far, and of how many.
        loss: what was minimised, per sequence.
        divergence: KL of the plain drafts, per row.
        coherent: KL of the sampler head's drafts (0 without the head).
        accepted: expected drafts accepted per chain on the training text, from the overlap of the distributions.
        learning_rate: factor on every part's peak rate.
        rows: look-ahead rows that learned in this step.
        seconds: of this step.
        seconds_left: estimate until the end of the run, evaluations included.
        kept_bytes: memory that kept prefixes take now.
    """

    step: int
    steps: int
    loss: float
    divergence: float
    coherent: float
    accepted: float
    learning_rate: float
    rows: int
    seconds: float
    seconds_left: float
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Held-out acceptance after `step` steps (0: before any, a reference); `best` when no earlier result was
    better."""

    step: int
    acceptance: Acceptance
    best: bool


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """The run's whole state after `step` steps is on disk."""

    step: int
    path: Path


class Ending(StrEnum):
    """Why a run ended."""

    COMPLETED = "completed"
    EARLY_STOP = "no better result any more"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over.

    Attributes:
        ending: why.
        step: steps done.
        best_step: the step whose parts are in `path`.
        acceptance: held-out acceptance of those.
        path: the look-ahead file; None when the run was cancelled before it had one.
        checkpoint: where a cancelled run can be resumed from.
    """

    ending: Ending
    step: int
    best_step: int
    acceptance: Acceptance | None
    path: Path | None
    checkpoint: Path | None


@dataclass(frozen=True, slots=True)
class StateHeadStarted:
    """The training of a state head begins (or resumes) at `step`.

    Attributes:
        trainable: parameters that learn.
        steps, seconds: how many steps, and how long they take with all evaluations.
        train_sequences, chosen_by, reported: texts to learn from, to choose the best step by, and to report.
    """

    trainable: int
    steps: int
    seconds: float
    train_sequences: int
    chosen_by: int
    reported: int
    step: int = 0


@dataclass(frozen=True, slots=True)
class StateHeadStep:
    """One optimiser step of a state head.

    Attributes:
        step, steps: done so far, and of how many.
        loss: what was minimised.
        divergence: KL of its drafts.
        matches: how often draft j matches on the training text (closed form).
        learning_rate: factor on the peak rate.
        places: chains that learned in this step.
        seconds, seconds_left: of this step, and until the end.
        kept_bytes: memory that kept states take now.
    """

    step: int
    steps: int
    loss: float
    divergence: float
    matches: tuple[float, ...]
    learning_rate: float
    places: int
    seconds: float
    seconds_left: float
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class StateHeadEvaluated:
    """Held-out figures of the state head after `step` steps (0: untrained); `best` by texts other than those."""

    step: int
    figures: StateAcceptance
    best: bool


@dataclass(frozen=True, slots=True)
class StateHeadFinished:
    """The training of a state head is over.

    Attributes:
        ending: why.
        step, best_step: steps done, and the step whose head is in the file (-1: none).
        figures: held-out figures of that head.
        path: the look-ahead file; None where no step was better than the untrained head, and nothing was written.
        checkpoint: where a cancelled run can be resumed from; None before its first step.
    """

    ending: Ending
    step: int
    best_step: int
    figures: StateAcceptance | None
    path: Path | None
    checkpoint: Path | None = None


TrainingEvent = (
    Started
    | StepDone
    | Evaluated
    | CheckpointSaved
    | Finished
    | StateHeadStarted
    | StateHeadStep
    | StateHeadEvaluated
    | StateHeadFinished
)
EventCallback = Callable[[TrainingEvent], None]
