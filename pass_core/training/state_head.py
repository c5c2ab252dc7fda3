"""Training a state head on a frozen model: cheap, for it needs no look-ahead rows.

`train_state_head` writes the file that it starts from with a new state head; all else in the file stays byte for byte.
Of the held-out texts, every second one chooses the best step; the file and the events report the others. `on_event`
gets `StateHeadStarted`, `StateHeadEvaluated` at step 0 (the untrained head, a reference), then `StateHeadStep`,
`StateHeadEvaluated` and `CheckpointSaved`, at last `StateHeadFinished`. The file is written whole whenever a better
head was found, and not at all while none is better than the untrained one.

A run is a function of (model, texts, config), a resumed one too; one with a time limit takes as many steps as fit.

Sources: Medusa, arXiv 2401.10774, section 2.2 (heads on a frozen model); Hydra, arXiv 2402.05109 (given the token).
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

from pass_core.engine import Engine
from pass_core.lookahead.embeddings import LookaheadEmbeddings, TrainingSummary
from pass_core.lookahead.state_head import draft_vocabulary
from pass_core.models.shipped import default_lookahead
from pass_core.progress import Cancelled, CancelToken
from pass_core.training.budget import Budget, StepPlan
from pass_core.training.checkpoint import RunState, data_digest, forget_checkpoint, load_checkpoint, save_checkpoint
from pass_core.training.config import TrainingError
from pass_core.training.control import PauseSwitch
from pass_core.training.corpus import Corpus
from pass_core.training.estimate import refuse_untrainable
from pass_core.training.events import (
    CheckpointSaved,
    Ending,
    EventCallback,
    StateHeadEvaluated,
    StateHeadFinished,
    StateHeadStarted,
    StateHeadStep,
    TrainingEvent,
)
from pass_core.training.options import TrainingOptions
from pass_core.training.running_mean import RunningMean
from pass_core.training.state_acceptance import StateAcceptance, measure_state, state_settings
from pass_core.training.state_config import StateHeadConfig
from pass_core.training.state_data import Rows, StateStore, divided, refuse_short, steps_of
from pass_core.training.state_parts import SHARED, StateHead, StateLoss, acceptance_share, state_loss
from pass_core.training.step import frozen, learning_rate_factor, step_generator
from pass_core.training.trainer import CLIP, FREQUENT

WEIGHT_DECAY = 0.01


def train_state_head(
    engine: Engine,
    corpus: Corpus,
    config: StateHeadConfig,
    options: TrainingOptions,
    *,
    on_event: EventCallback | None = None,
    cancel: CancelToken | None = None,
    pause: PauseSwitch | None = None,
    budget: Budget | None = None,
) -> StateHeadFinished:
    """Train a new state head, and write `options.init` with it to `options.out`.

    Without `options.init` it goes into the file that the model comes with, or beside untrained embeddings.

    Args:
        budget: of the whole work where that began before this call; else `config.minutes` begin now.

    Raises:
        TrainingError: the model cannot be trained for, the texts are too short, or the checkpoint belongs to another
            run.
        LookaheadError: `options.init` is for another model.
    """
    cancel = cancel or CancelToken()
    trainer = StateHeadTrainer(engine, corpus, config, options, cancel, budget)
    return trainer.run(on_event or _nothing, pause or PauseSwitch())


def _nothing(event: TrainingEvent) -> None:
    pass


@dataclass
class _Best:
    """The best step so far (-1: none), its reported figures, and what it was chosen by."""

    step: int = -1
    expected: float = -math.inf
    figures: StateAcceptance | None = None

    def to_json(self) -> str:
        return json.dumps({"expected": self.expected, "figures": self.figures and asdict(self.figures)})

    @classmethod
    def from_json(cls, step: int, text: str) -> _Best:
        raw = json.loads(text)
        figures = raw["figures"] and StateAcceptance.from_raw(raw["figures"])
        return cls(step, float(raw["expected"]), figures)


class StateHeadTrainer:
    """One run: the head, its optimiser and place. `run` drives it; tests also call `gradient_step`."""

    def __init__(
        self,
        engine: Engine,
        corpus: Corpus,
        config: StateHeadConfig,
        options: TrainingOptions,
        cancel: CancelToken,
        budget: Budget | None = None,
    ) -> None:
        model = engine.model
        refuse_untrainable(model)
        self.model, self.corpus, self.config, self.options, self.cancel = model, corpus, config, options, cancel
        self.base = options.init or default_lookahead(model)
        self.base.check(model)
        texts = [s[: config.length] for s in corpus.train]
        self.chosen_by, self.reported = divided(corpus.held_out)
        refuse_short(texts, self.chosen_by + self.reported, config.depth)
        self.digest = data_digest(texts, [h.ids for h in corpus.held_out])
        counts = torch.bincount(torch.cat(texts), minlength=model.vocabulary_size)
        drafted = draft_vocabulary(counts)
        self.head = StateHead.new(model.hidden_size, config, drafted).to(model.device)
        self.frequent = counts[drafted].topk(min(FREQUENT, len(drafted))).indices.to(model.device)
        self.mean = RunningMean(self.head, config.ema)
        self.optimizer = torch.optim.AdamW(
            self.head.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
        )
        self.budget = budget or Budget(config.minutes)
        self._began = self.budget.spent
        self.step = 0
        self.seconds = 0.0
        self.best = _Best()
        self.plan = StepPlan()
        if options.resume and options.state_checkpoint_path.exists():
            self._resume()
        self.until = self.budget.until_end(cancel)
        self.store = StateStore(model, texts, options.memory, config.top_k, self.until)
        self._held = [
            StateStore(model, [h.ids for h in held], options.memory // 16, config.top_k, cancel)
            for held in (self.chosen_by, self.reported)
        ]
        self._steps = steps_of(self.store, config, self.step)
        self._next: Rows | None = None
        self._recent: deque[float] = deque(maxlen=20)

    # -- the run --------------------------------------------------------------------------------------------------

    def run(self, report: Callable[[TrainingEvent], None], pause: PauseSwitch) -> StateHeadFinished:
        """Drive the whole run; see `train_state_head`."""
        ending = Ending.COMPLETED
        with frozen(self.model):
            try:
                if self.step < self.config.steps:
                    self._go(report, pause)
            except Cancelled:  # by somebody, or the time is over
                if self.cancel.cancelled:
                    ending = Ending.CANCELLED
                elif self.step:
                    report(self._evaluate())
                    self.config = replace(self.config, steps=self.step)
                if self.step:
                    report(self._checkpoint())
        path = self.options.out if self.best.step > 0 else None
        checkpoint = self.options.state_checkpoint_path if self.step else None
        finished = StateHeadFinished(ending, self.step, self.best.step, self.best.figures, path, checkpoint)
        report(finished)
        return finished

    def _go(self, report: Callable[[TrainingEvent], None], pause: PauseSwitch) -> None:
        """All steps that are left.

        Raises:
            Cancelled: or the time is over.
        """
        self.settle_steps()
        first = None
        if not self.step:
            forget_checkpoint(self.options.state_checkpoint_path)
            first = self._evaluate(first=True)
        self._plan_steps()
        report(self._started())
        if first is not None:
            report(first)
        while self.step < self.config.steps:
            pause.wait(self.cancel)
            self.cancel.raise_if_cancelled()
            done = self._one_step()
            self._plan_steps()
            steps, every = self.config.steps, self.config.evaluate_every
            left = self.budget.left if self.budget.limited else self._seconds_left()
            report(replace(done, steps=steps, seconds_left=max(0.0, left)))
            last = self.step >= steps
            if last or (every and self.step % every == 0):
                report(self._evaluate())
            if last or self.step % self.config.checkpoint_every == 0:
                report(self._checkpoint())

    def settle_steps(self) -> None:
        """Compute what evaluations need, and time a step without taking it.

        Raises:
            Cancelled: or the time is over.
        """
        for store in self._held:
            for number in range(len(store)):
                self.until.raise_if_cancelled()
                store.block(number)
        started = self.budget.clock()
        self._next = rows = self.next_rows()
        self.gradient_step(rows)
        self.optimizer.zero_grad(set_to_none=True)
        self.plan.step_seconds = self.budget.clock() - started

    def next_rows(self) -> Rows:
        """The chains of the next step.

        Raises:
            Cancelled: or the time is over.
        """
        rows, self._next = self._next or next(self._steps), None
        return rows

    def whole_seconds(self) -> float:
        """What all steps and evaluations take, from what one of each took."""
        every = self.config.evaluate_every
        evaluations = 2 + (self.config.steps // every if every else 0)
        return self.plan.step_seconds * self.config.steps + self.plan.evaluation_seconds * evaluations

    def _started(self) -> StateHeadStarted:
        return StateHeadStarted(
            trainable=sum(p.numel() for p in self.head.parameters()),
            steps=self.config.steps,
            seconds=self._seconds_left() if self.step else self.whole_seconds(),
            train_sequences=len(self.corpus.train),
            chosen_by=len(self.chosen_by),
            reported=len(self.reported),
            step=self.step,
        )

    def _seconds_left(self) -> float:
        left = self.config.steps - self.step
        evaluations = 1 + (left // self.config.evaluate_every if self.config.evaluate_every else 0)
        mean = sum(self._recent) / len(self._recent) if self._recent else self.plan.step_seconds
        return mean * left + self.plan.evaluation_seconds * evaluations

    def _plan_steps(self) -> None:
        """With a time limit: fit the number of steps to the time that is left."""
        if self.budget.limited:
            reserve = self.plan.checkpoint_seconds
            steps = self.plan.steps(self.step, self.budget.left, self.config.evaluate_every, reserve)
            self.config = replace(self.config, steps=max(1, self.step, steps))

    def _one_step(self) -> StateHeadStep:
        started = self.budget.clock()
        factor = learning_rate_factor(self.step, self.config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        rows = self.next_rows()
        loss = self.gradient_step(rows)
        if not math.isfinite(shown := float(loss.total.detach())):
            raise TrainingError(
                f"The state head's loss became {shown} at step {self.step + 1}. Train it on other text."
            )
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), CLIP)
        self.optimizer.step()
        self.mean.follow(self.step)
        self.step += 1
        took = self.budget.clock() - started
        self.seconds += took
        self._recent.append(took)
        self.plan.observe_step(took)
        return StateHeadStep(
            self.step,
            self.config.steps,
            shown,
            float(loss.divergence),
            tuple(loss.matches.tolist()),
            factor,
            len(rows.hidden),
            took,
            0.0,
            self.store.kept_bytes,
        )

    def gradient_step(self, rows: Rows) -> StateLoss:
        """Put the gradient of the present step into the head; nothing else changes."""
        self.optimizer.zero_grad(set_to_none=True)
        groups = max(1, len(rows.hidden) // SHARED)
        generators = [step_generator(self.config.seed, self.step, group) for group in range(groups)]
        share = acceptance_share(self.step / self.config.steps)
        loss = state_loss(self.model, self.head, rows, self.frequent, generators, self.config, share)
        loss.total.backward()
        return loss

    # -- evaluation, the file -------------------------------------------------------------------------------------

    def _evaluate(self, first: bool = False) -> StateHeadEvaluated:
        """Measure the running mean, and write the file where it is the best so far."""
        started = self.budget.clock()
        with self.mean.in_place():
            chosen_by, reported = (
                measure_state(
                    self.model,
                    self.head,
                    held,
                    store,
                    state_settings(self.config.depth, self.config.temperature, self.config.top_k),
                    contexts=max(len(held), self.config.evaluate_contexts // 2),
                )
                for held, store in zip((self.chosen_by, self.reported), self._held, strict=True)
            )
            better = chosen_by.expected > self.best.expected
            if better:
                self.best = _Best(-1 if first else self.step, chosen_by.expected, None if first else reported)
                if not first:
                    self.export(reported).save(self.options.out, dtype=None)
        self.plan.evaluation_seconds = self.budget.clock() - started
        return StateHeadEvaluated(self.step, reported, better and not first)

    def export(self, figures: StateAcceptance) -> LookaheadEmbeddings:
        """The file that the run starts from, with the present head in it."""
        config, base = self.config, self.base
        summary = base.training or TrainingSummary(temperature=config.temperature, top_k=config.top_k)
        summary = replace(summary, state_acceptance=figures.match, state_command=self.options.command)
        return replace(
            base,
            state=self.head.weights(self.options.dtype),
            base_model=self.model.name,
            base_fingerprint=self.model.fingerprint,
            training=summary,
        )

    def _checkpoint(self) -> CheckpointSaved:
        started, path = self.budget.clock(), self.options.state_checkpoint_path
        save_checkpoint(path, self.state())
        self.plan.checkpoint_seconds = self.budget.clock() - started
        return CheckpointSaved(self.step, path)

    def state(self) -> RunState[StateHeadConfig]:
        """Everything a resumed run needs; the best head is in the look-ahead file."""
        return RunState(
            config=self.config,
            fingerprint=self.model.fingerprint,
            data=self.digest,
            step=self.step,
            parts=self.head.state_dict(),
            optimizer=self.optimizer.state_dict(),
            best_step=self.best.step,
            best_acceptance=self.best.to_json(),
            worse=0,
            seconds=self.seconds,
            mean=self.mean.state_dict(),
            walkers=torch.zeros(0, 0),
            spent=self.budget.spent - self._began,
            evaluation_seconds=self.plan.evaluation_seconds,
        )

    def _resume(self) -> None:
        path = self.options.state_checkpoint_path
        state = load_checkpoint(path, StateHeadConfig)
        state.check(path, self.config, self.model.fingerprint, self.digest, self.options.out)
        self.config = state.config
        self.head.load_state_dict(state.parts)
        self.optimizer.load_state_dict(state.optimizer)
        self.mean.load_state_dict(state.mean)
        self.step, self.seconds, self.budget = state.step, state.seconds, self.budget.after(state.spent)
        self.plan.evaluation_seconds = state.evaluation_seconds
        self.best = _Best.from_json(state.best_step, state.best_acceptance)
