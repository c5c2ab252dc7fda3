"""Training look-ahead parts on a frozen model: the loop, resumable and cancellable, reporting through events.

How a consumer uses it::

    corpus = ...                                  # pass_core.training.corpus
    config = TrainingConfig(kind=TrainingKind.ADAPTER, with_sampler=True, steps=600)
    options = TrainingOptions(out=Path("mine.safetensors"))
    finished = train(engine, corpus, config, options, on_event=show, cancel=token, pause=pause)

`on_event` receives the frozen dataclasses of `pass_core.training.events` in the training thread: `Started` (with the
estimate), `Evaluated` at step 0 (the starting point), then `StepDone`, `Evaluated` and `CheckpointSaved`, at last
`Finished`. Setting `cancel` ends the run after the present step with a checkpoint; `pause` holds it between two steps.
Until `train` returns, the model must not be used for anything else: hooks of look-ahead rows are on it during a step.

A run is a function of (model, corpus, config): every random number comes from the seed, the step and the sequence's
place in the batch, so a resumed run and one of several processes compute what an unbroken single one does. Only a run
with a time limit takes as many steps as this machine finishes in it, and ends on time with the best file kept.

Source: PaSS, arXiv 2311.13581, section 3 (embeddings on a frozen model); arXiv 2507.11851 (gated adapters, sampler).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import torch

from pass_core.engine import Engine
from pass_core.lookahead.embeddings import LookaheadEmbeddings, TrainingSummary
from pass_core.progress import CancelToken
from pass_core.training.acceptance import Acceptance, chain_settings, measure
from pass_core.training.budget import Budget, StepPlan, fewer_places, rarer_evaluations
from pass_core.training.chains import join
from pass_core.training.checkpoint import RunState, data_digest, forget_checkpoint, load_checkpoint, save_checkpoint
from pass_core.training.config import TrainingConfig, TrainingError
from pass_core.training.control import PauseSwitch
from pass_core.training.corpus import Corpus
from pass_core.training.estimate import Pace, estimate, pace, refuse_untrainable
from pass_core.training.events import (
    CheckpointSaved,
    Ending,
    Evaluated,
    EventCallback,
    Finished,
    Started,
    StepDone,
)
from pass_core.training.options import TrainingOptions
from pass_core.training.parts import new_parts
from pass_core.training.processes import Processes
from pass_core.training.running_mean import RunningMean
from pass_core.training.step import (
    batch_loss,
    drafts_hit,
    frozen,
    learning_rate_factor,
    place_batch,
    sequence_numbers,
    step_generator,
)
from pass_core.training.store import PrefixStore
from pass_core.training.walkers import Walkers

FREQUENT = 1024
CLIP = 1.0


def train(
    engine: Engine,
    corpus: Corpus,
    config: TrainingConfig,
    options: TrainingOptions,
    *,
    on_event: EventCallback | None = None,
    cancel: CancelToken | None = None,
    pause: PauseSwitch | None = None,
    budget: Budget | None = None,
) -> Finished:
    """Train, and write the best parts to `options.out`.

    Args:
        budget: of the whole work where that began before this call; else `config.minutes` begin now.

    Raises:
        TrainingError: the model cannot be trained for, the corpus is too small, or the checkpoint belongs to
            another run.
    """
    trainer = Trainer(engine, corpus, config, options, budget)
    return trainer.run(on_event, cancel or CancelToken(), pause or PauseSwitch())


@dataclass
class _Best:
    step: int = -1
    acceptance: Acceptance | None = None
    worse: int = 0

    @property
    def accepted(self) -> float:
        return self.acceptance.accepted_per_iteration if self.acceptance else -1.0


class Trainer:
    """One run: its parts, optimiser and place. `run` drives it; tests also call `gradient_step`."""

    def __init__(
        self,
        engine: Engine,
        corpus: Corpus,
        config: TrainingConfig,
        options: TrainingOptions,
        budget: Budget | None = None,
    ) -> None:
        model = engine.model
        refuse_untrainable(model)
        corpus.check(config)
        self.model, self.corpus, self.config, self.options = model, corpus, config, options
        self.processes = Processes(cpu=model.device.type == "cpu")
        self.sequences = [s[: config.length] for s in corpus.train]
        self.digest = data_digest(self.sequences, [h.ids for h in corpus.held_out])
        self.step = 0
        self.seconds = 0.0
        self.best = _Best()
        self._recent: deque[float] = deque(maxlen=20)
        self.parts = new_parts(model, config, options.init)
        if config.uses_bigrams:
            self.parts.bigrams = engine.read_bigrams().to(model.device)
        self.mean = RunningMean(self.parts, config.ema)
        count = Walkers.count_for(config.decode_share, config.rows, config.lookahead, config.survival)
        self.walkers = Walkers([len(s) for s in self.sequences], count, config.seed)
        self.optimizer = torch.optim.AdamW(self.parts.groups(config), betas=(0.9, 0.98))
        counts = torch.bincount(torch.cat(self.sequences), minlength=model.vocabulary_size)
        self.frequent = counts.topk(min(FREQUENT, model.vocabulary_size)).indices.to(model.device)
        self.store = PrefixStore(model, self.sequences, options.memory)
        self._held_store = PrefixStore(model, [h.ids for h in corpus.held_out], options.memory // 8)
        self.pace = Pace(0.0, 0.0, 0)
        self.budget = budget or Budget(config.minutes)
        self.plan = StepPlan()
        self._moved: tuple[list[int], torch.Tensor] | None = None
        if options.resume and options.checkpoint_path.exists():
            self._resume()

    # -- the run --------------------------------------------------------------------------------------------------

    def run(self, on_event: EventCallback | None, cancel: CancelToken, pause: PauseSwitch) -> Finished:
        """Drive the whole run; see `train`."""

        def report(event: Any) -> None:
            if on_event is not None and self.processes.main:
                on_event(event)

        with frozen(self.model):
            self.settle_steps()
            first = None
            if self.config.minutes and self.step == 0:
                first = self._first_of_limited()
            told = estimate(self.model, self.parts, self.config, self.sequences, self.options.memory, self.pace)
            report(Started(self.config, told, self.step, len(self.sequences), len(self.corpus.held_out)))
            if self.step == 0:
                if self.processes.main:
                    forget_checkpoint(self.options.checkpoint_path)
                report(first or self._evaluate())
            ending = Ending.COMPLETED
            while self.step < self.config.steps:
                pause.wait(cancel)
                if self.processes.agree(float(cancel.cancelled), self.model.device):
                    ending = Ending.CANCELLED
                    break
                done = self._one_step()
                if self.config.minutes:
                    self._plan_steps()
                    done = replace(done, steps=self.config.steps, seconds_left=max(0.0, self.budget.left))
                report(done)
                last = self.step >= self.config.steps
                every = self.config.evaluate_every
                if last or (every and self.step % every == 0):
                    report(self._evaluate())
                    if self.config.patience and self.best.worse >= self.config.patience:
                        ending = Ending.EARLY_STOP
                        break
                if last or self.step % self.config.checkpoint_every == 0:
                    report(self._checkpoint())
            if ending is not Ending.COMPLETED:
                report(self._checkpoint())
            self._keep_something()
            finished = self._finish(ending)
            report(finished)
            return finished

    def _first_of_limited(self) -> Evaluated:
        """The first evaluation of a run with a time limit, and what follows from how long it takes."""
        texts, started = len(self.corpus.held_out), self.budget.clock()
        self.evaluate(texts)  # at a single place of each text
        probe = self.processes.agree(self.budget.clock() - started, self.model.device)
        expected = probe * max(1.0, self.config.evaluate_contexts / texts)
        self.config = fewer_places(self.config, expected, self.processes.agree(self.budget.left, self.model.device))
        evaluated = self._evaluate()
        ratio = self.plan.evaluation_seconds / max(self.plan.step_seconds, 1e-9)
        self.config = rarer_evaluations(self.config, self.processes.agree(ratio, self.model.device))
        self._plan_steps()
        return evaluated

    def _plan_steps(self) -> None:
        """Fit the number of steps, and with it the fall of the learning rate, to the time that is left."""
        left = self.processes.agree(self.budget.left, self.model.device)
        steps = self.plan.steps(self.step, left, self.config.evaluate_every, self.plan.checkpoint_seconds)
        self.config = replace(self.config, steps=max(1, self.step, int(self.processes.agree(steps, self.model.device))))

    def _keep_something(self) -> None:
        """A run whose time was too short for any evaluation still leaves the file that it was asked for."""
        if self.best.step < 0 and self.step and self.processes.main:
            with self.mean.in_place():
                self.export(None).save(self.options.out)
            self.best.step = self.step

    def _one_step(self) -> StepDone:
        started = self.budget.clock()
        factor = learning_rate_factor(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        shown = self.gradient_step()
        if not math.isfinite(shown["loss"]):
            raise TrainingError(
                f"The loss became {shown['loss']} at step {self.step + 1}. Start again with lower learning rates."
            )
        torch.nn.utils.clip_grad_norm_(self.parts.parameters(), CLIP)
        self.optimizer.step()
        self.mean.follow(self.step)
        self.step += 1
        if self._moved is not None:
            self.walkers.move(*self._moved)
        took = self.budget.clock() - started
        self.seconds += took
        self._recent.append(took)
        self.plan.observe_step(took)
        mean = sum(self._recent) / len(self._recent)
        return StepDone(
            self.step,
            self.config.steps,
            shown["loss"],
            shown["divergence"],
            shown["coherent"],
            shown["accepted"],
            factor,
            self.config.rows * self.config.batch,
            took,
            mean * (self.config.steps - self.step),
            self.store.kept_bytes,
        )

    def gradient_step(self) -> dict[str, float]:
        """Put the gradient of the present step into the parts (summed over processes); returns the mean losses.

        Nothing else changes: where walkers go is kept in `_moved` until the step is taken.
        """
        config = self.config
        self.optimizer.zero_grad(set_to_none=True)
        numbers = sequence_numbers(self.step, config, len(self.sequences))
        mine = self.processes.share(numbers)
        moved: dict[int, list[int]] = {}
        shown = {"loss": 0.0, "divergence": 0.0, "coherent": 0.0, "accepted": 0.0}
        late = self.step >= config.steps * (1 - config.acceptance_share)
        if mine:
            batch = self.store.batch([n for _, n in mine])
            generators = [step_generator(config.seed, self.step, place) for place, _ in mine]
            walked = [self.walkers.of(number) for _, number in mine]
            chains = place_batch(batch, config, generators, walked)
            joined = join(chains).to(self.model.device)
            acceptance = config.acceptance_weight if late else 0.0
            loss = batch_loss(self.model, self.parts, batch, joined, generators, self.frequent, config, acceptance)
            (loss.total / config.batch).backward()
            shown = dict(zip(loss.names, loss.shown.tolist(), strict=True))
            if config.decode_share:
                hits = drafts_hit(loss, batch, joined, generators, config)
                for (place, number), one, hit, generator in zip(mine, chains, hits, generators, strict=True):
                    moved[place] = self.walkers.advanced(number, one, hit, generator)
        self.processes.sum_gradients(self.parts.parameters())
        summed = self.processes.sum(shown, self.model.device)
        if config.decode_share:
            width = self.walkers.places.shape[1]
            self._moved = numbers, self.processes.gather(moved, config.batch, width, self.model.device)
        return {name: value / config.batch for name, value in summed.items()}

    def settle_steps(self) -> None:
        """Time a step whose prefixes are new and one whose prefixes are kept."""
        if self.step:
            self.pace = Pace(self.seconds / self.step, self.seconds / self.step, 0)
            self.plan.step_seconds = self.pace.kept
            return
        times: list[float] = []
        if self.model.device.type != "cpu":
            self.gradient_step()  # the first step on a device also starts the device
            self.store.forget()
        for _ in range(1 if self.config.minutes else 2):  # a run with a time limit learns its pace as it goes
            started = self.budget.clock()
            self.gradient_step()
            self.optimizer.zero_grad(set_to_none=True)
            times.append(self.processes.agree(self.budget.clock() - started, self.model.device))
        self.pace = pace(times[0], times[-1], self.sequences, self.config, self.store)
        self.plan.step_seconds = self.pace.new

    # -- evaluation, files ----------------------------------------------------------------------------------------

    def evaluate(self, contexts: int | None = None) -> Acceptance:
        """Held-out acceptance of the present parts at the config's sampling settings."""
        return measure(
            self.model,
            self.parts,
            self.corpus.held_out,
            self._held_store,
            chain_settings(self.config, self.config.lookahead),
            contexts=contexts or self.config.evaluate_contexts,
            batch=self.config.batch,
        )

    def _evaluate(self) -> Evaluated:
        started = self.budget.clock()
        with self.mean.in_place():
            evaluated = self._judge(self.evaluate())
        self.plan.evaluation_seconds = self.budget.clock() - started
        return evaluated

    def _judge(self, acceptance: Acceptance) -> Evaluated:
        """Keep the present parts where they are the best so far."""
        # The acceptance of an untrained start is a reference, not a result.
        result = self.step > 0 or self.options.init is not None
        better = result and acceptance.accepted_per_iteration > self.best.accepted
        if better:
            self.best = _Best(self.step, acceptance)
            if self.processes.main:
                self.export(acceptance).save(self.options.out)
        elif result:
            self.best.worse += 1
        return Evaluated(self.step, acceptance, better)

    def export(self, acceptance: Acceptance | None) -> LookaheadEmbeddings:
        """The present parts as a look-ahead file's content, with their recipe, and the state head that was there."""
        summary = TrainingSummary(
            steps=self.step,
            tokens=self.step * self.config.batch * self.config.rows,
            data=self.corpus.description,
            command=self.options.command,
            acceptance=acceptance.accepted if acceptance else (),
            accepted_per_iteration=acceptance.accepted_per_iteration if acceptance else 0.0,
            temperature=self.config.temperature,
            top_k=self.config.top_k,
            bigrams=self.config.uses_bigrams,
        )
        return self.options.keep_state_head(self.parts.to_lookahead(self.model, summary, self.options.dtype))

    def _checkpoint(self) -> CheckpointSaved:
        started = self.budget.clock()
        if self.processes.main:
            save_checkpoint(self.options.checkpoint_path, self.state())
        self.plan.checkpoint_seconds = self.budget.clock() - started
        return CheckpointSaved(self.step, self.options.checkpoint_path)

    def state(self) -> RunState[TrainingConfig]:
        """Everything a resumed run needs."""
        return RunState(
            config=self.config,
            fingerprint=self.model.fingerprint,
            data=self.digest,
            step=self.step,
            parts=self.parts.state_dict(),
            optimizer=self.optimizer.state_dict(),
            best_step=self.best.step,
            best_acceptance=self.best.acceptance.to_json() if self.best.acceptance else "",
            worse=self.best.worse,
            seconds=self.seconds,
            mean=self.mean.state_dict(),
            walkers=self.walkers.places,
            spent=self.budget.spent,
            evaluation_seconds=self.plan.evaluation_seconds,
        )

    def _resume(self) -> None:
        path = self.options.checkpoint_path
        state = load_checkpoint(path)
        state.check(path, self.config, self.model.fingerprint, self.digest, self.options.out)
        self.config = state.config
        self.parts.load_state_dict(state.parts)
        self.optimizer.load_state_dict(state.optimizer)
        self.mean.load_state_dict(state.mean)
        self.walkers.places = state.walkers
        self.step, self.seconds, self.budget = state.step, state.seconds, self.budget.after(state.spent)
        self.plan.evaluation_seconds = state.evaluation_seconds
        best = Acceptance.from_json(state.best_acceptance) if state.best_acceptance else None
        self.best = _Best(state.best_step, best, state.worse)

    def _finish(self, ending: Ending) -> Finished:
        path = self.options.out if self.best.step >= 0 else None
        checkpoint = self.options.checkpoint_path
        return Finished(ending, self.step, self.best.step, self.best.acceptance, path, checkpoint)
