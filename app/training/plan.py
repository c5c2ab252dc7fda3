"""What the user wants trained, as one value, and the work that does it in a background thread."""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pass_core.progress import Progress
from pass_core.training.config import TrainingConfig, TrainingError

if TYPE_CHECKING:
    from app.engine.jobs import JobControl
    from pass_core.engine import Engine
    from pass_core.models.language_model import LanguageModel
    from pass_core.training.budget import Budget
    from pass_core.training.control import PauseSwitch
    from pass_core.training.corpus import Corpus
    from pass_core.training.events import Estimate, Finished, TrainingEvent

SELF = "self"
MEMORY_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """One run.

    Attributes:
        config: see pass_core.training.config.
        data: "self", or the path of a text file or folder.
        sequences: texts to train on, at most; a quarter as many more (6 to 48) are held out.
        out: the look-ahead file to write.
        state_head: whether the state head is trained last.
        resume: continue from the checkpoint beside `out`.
    """

    config: TrainingConfig
    data: str
    sequences: int
    out: Path
    state_head: bool = False
    resume: bool = False

    @property
    def held_out(self) -> int:
        """Texts that acceptance is measured on."""
        return max(6, min(48, self.sequences // 4))

    @property
    def checkpoint(self) -> Path:
        """Where the trainer keeps the state of the run."""
        return self.out.with_name(self.out.stem + ".checkpoint")

    def command(self, model: LanguageModel) -> str:
        """The command that makes the same file, for its recipe."""
        c, default = self.config, TrainingConfig()
        words = ["python", "-m", "pass_core", "train", "--model", model.name, "--kind", c.kind.value]
        words += ["--sampler"] if c.with_sampler else []
        words += ["--state-head"] if self.state_head else []
        words += ["--look-ahead", str(c.lookahead)]
        words += ["--rank", str(c.rank)] if c.adapter else []
        words += ["--data", self.data, "--sequences", str(self.sequences), "--held-out", str(self.held_out)]
        words += ["--minutes", f"{c.minutes:g}"] if c.minutes else ["--steps", str(c.steps)]
        for name, option in (("batch", "--batch"), ("rows", "--rows"), ("length", "--length")):
            if getattr(c, name) != getattr(default, name):
                words += [option, str(getattr(c, name))]
        words += ["--evaluate-every", str(c.evaluate_every), "--contexts", str(c.evaluate_contexts)]
        return shlex.join([*words, "--out", self.out.name])

    def to_json(self) -> str:
        """A JSON object that `from_json` reads."""
        return json.dumps(
            {
                "config": self.config.to_json(),
                "data": self.data,
                "sequences": self.sequences,
                "out": str(self.out),
                "state_head": self.state_head,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> TrainingPlan | None:
        """What `to_json` wrote; None when it is damaged."""
        try:
            raw: Any = json.loads(text)
            config = TrainingConfig.from_json(raw["config"])
            return cls(
                config, str(raw["data"]), int(raw["sequences"]), Path(raw["out"]), bool(raw.get("state_head", False))
            )
        except (ValueError, TypeError, KeyError):
            return None


def suggested_file(folder: Path, model_name: str, kind: str, sampler: bool) -> Path:
    """A new name in `folder`; nothing that exists is ever suggested."""
    stem = re.sub(r"[^\w.-]+", "-", Path(model_name).name).strip("-.") or "model"
    stem += f"-{kind}" + ("-sampler" if sampler else "")
    number, path = 1, folder / f"{stem}.safetensors"
    while path.exists() or path.with_suffix(".checkpoint").exists():
        number += 1
        path = folder / f"{stem}-{number}.safetensors"
    return path


def carry_out(plan: TrainingPlan, engine: Engine, control: JobControl, pause: PauseSwitch) -> Finished:
    """Read or write the text, then train; events go through `control.emit`.

    Raises:
        TrainingError: the run cannot start or resume. Cancelled: while the text was read or written.
    """
    from pass_core.training.budget import Budget
    from pass_core.training.events import Ending, StateHeadStep, StepDone
    from pass_core.training.options import TrainingOptions
    from pass_core.training.phases import train_all
    from pass_core.training.preview import prepare
    from pass_core.training.state_config import StateHeadConfig

    check_writable(plan.out)
    budget = Budget(plan.config.minutes)  # everything from here on counts
    plan = replace(plan, data=divided_text(plan, control))
    corpus = read_text(plan, engine, control, held_out=plan.held_out, budget=budget)
    config = prepare(engine, plan.config, control.progress, control.cancel, budget)
    control.progress(Progress("Measuring a first step", 0, None))
    command = plan.command(engine.model)
    options = TrainingOptions(plan.out, resume=plan.resume, memory=MEMORY_BYTES, command=command)

    def report(event: TrainingEvent) -> None:
        if isinstance(event, StepDone):
            control.progress(Progress("Training", event.step, event.steps, "steps", event.seconds_left))
        elif isinstance(event, StateHeadStep):
            stage = "Training the state head"
            control.progress(Progress(stage, event.step, event.steps, "steps", event.seconds_left))
        control.emit(event)

    state = StateHeadConfig() if plan.state_head else None
    finished, last = train_all(
        engine, corpus, config, state, options, on_event=report, cancel=control.cancel, pause=pause, budget=budget
    )
    if last is not None and last.ending is Ending.CANCELLED:  # the whole run can be resumed, in its last part
        return replace(finished, ending=last.ending, checkpoint=last.checkpoint or finished.checkpoint)
    return finished


def divided_text(plan: TrainingPlan, control: JobControl) -> str:
    """What the trainer reads for the plan's text: one long file is cut into documents."""
    from app.training.own_text import divided
    from pass_core.files import cache_folder

    if plan.data == SELF:
        return SELF
    control.progress(Progress("Reading the text", 0, None))
    return divided(plan.data, cache_folder() / "training" / "own", control.cancel)


def read_text(
    plan: TrainingPlan, engine: Engine, control: JobControl, *, held_out: int, budget: Budget | None = None
) -> Corpus:
    """The plan's text, read or written by the model, with `held_out` held-out texts.

    Raises:
        TrainingError: there is too little. Cancelled.
    """
    from pass_core.files import cache_folder
    from pass_core.training.selfwritten import SelfPlan, make_corpus

    c = plan.config
    control.progress(Progress("Reading the text" if plan.data != SELF else "Looking for text written before", 0, None))
    corpus = make_corpus(
        engine.model,
        plan.data,
        length=c.length,
        sequences=plan.sequences,
        plan=SelfPlan(plan.sequences, held_out, c.length, temperature=c.temperature, top_k=c.top_k),
        folder=cache_folder() / "training",
        progress=control.progress,
        cancel=control.cancel,
        budget=budget,
    )
    control.cancel.raise_if_cancelled()
    return corpus


def measure(plan: TrainingPlan, engine: Engine, control: JobControl) -> Estimate:
    """Time and memory of a run, from a step that is timed now.

    Raises:
        TrainingError: the model cannot be trained for. Cancelled: somebody wants the model.
    """
    from pass_core.files import cache_folder
    from pass_core.training.preview import preview
    from pass_core.training.selfwritten import SelfPlan, own_text, unwritten
    from pass_core.training.state_config import StateHeadConfig

    to_write = 0
    if plan.data == SELF:
        model = engine.model
        written = SelfPlan(plan.sequences, plan.held_out, plan.config.length)
        to_write = unwritten(model, written, own_text(model, written, cache_folder() / "training"))
    return preview(
        engine,
        plan.config,
        sequences=plan.sequences,
        memory=MEMORY_BYTES,
        to_write=to_write,
        state=StateHeadConfig() if plan.state_head else None,
        cancel=control.cancel,
    )


def check_writable(out: Path) -> None:
    """
    Raises:
        TrainingError: nothing can be written to the file's place: said before the training, not after it.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
        if out.exists() and not os.access(out, os.W_OK):
            raise PermissionError("the file is read-only")
    except OSError as error:
        cause = error.strerror or str(error)
        raise TrainingError(f"{out} cannot be written ({cause}). Choose another place for the file.") from error


def training_sentence(error: BaseException) -> str:
    """The trainer's own words as a sentence, or the cause of anything else."""
    from app.state.errors import plain_sentence

    if isinstance(error, TrainingError):
        text = (
            str(error)
            .replace("use --data self", "let the model write it")
            .replace("--data self", "text that the model writes")
        )
        text = text.replace("Start the run without --resume.", "Start a new run.")
        return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "”")) else ".")
    if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
        return "The training ran out of memory. Choose embeddings alone, fewer texts, or close other programs."
    return plain_sentence(error, "The training stopped")
