"""Training look-ahead parts on a frozen model: the loop, resumable and cancellable, reporting through events.

How a consumer uses it::

    corpus = ...                                  # pass_core.training.corpus
    config = TrainingConfig(kind=TrainingKind.ADAPTER, with_sampler=True, steps=600)
    options = TrainingOptions(out=Path("mine.safetensors"))
    finished = train(model, corpus, config, options, on_event=show, cancel=token, pause=pause)

`on_event` receives the frozen dataclasses of `pass_core.training.events` in the training thread: `Started` (with the
estimate), `Evaluated` at step 0 (the starting point), then `StepDone`, `Evaluated` and `CheckpointSaved`, at last
`Finished`. Setting `cancel` ends the run after the present step with a checkpoint; `pause` holds it between two steps.
Until `train` returns, the model must not be used for anything else: hooks of look-ahead rows are on it during a step.

A run is a function of (model, corpus, config): every random number comes from the seed, the step and the sequence's
place in the batch, so a resumed run and one of several processes compute what an unbroken single one does.

Source: PaSS, arXiv 2311.13581, section 3 (embeddings on a frozen model); arXiv 2507.11851 (gated adapters, sampler).
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pass_core.lookahead.embeddings import LookaheadEmbeddings, TrainingSummary
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken, ProgressCallback
from pass_core.runtime.bigram_reader import bigrams_for
from pass_core.training.acceptance import Acceptance, ChainSettings, HeldOut, measure, measure_decoding
from pass_core.training.chains import place_chains
from pass_core.training.checkpoint import RunState, data_digest, load_checkpoint, save_checkpoint
from pass_core.training.config import TrainingConfig, TrainingError
from pass_core.training.control import PauseSwitch
from pass_core.training.corpus import Corpus
from pass_core.training.estimate import Pace, estimate, pace, refuse_untrainable
from pass_core.training.events import (
    CheckpointSaved,
    Ending,
    Estimate,
    Evaluated,
    EventCallback,
    Finished,
    Started,
    StepDone,
)
from pass_core.training.parts import new_parts, parts_of
from pass_core.training.processes import Processes
from pass_core.training.step import (
    batch_loss,
    epoch_order,
    frozen,
    learning_rate_factor,
    place_weights,
    step_generator,
)
from pass_core.training.store import PrefixStore

FREQUENT = 1024
CLIP = 1.0


@dataclass(frozen=True)
class TrainingOptions:
    """How a run is carried out, without any influence on what it computes.

    Attributes:
        out: the look-ahead file to write (the best parts so far, replaced as they improve).
        checkpoint: the run's state; beside `out` when None.
        resume: go on from the checkpoint when there is one.
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


def train(
    model: LanguageModel,
    corpus: Corpus,
    config: TrainingConfig,
    options: TrainingOptions,
    *,
    on_event: EventCallback | None = None,
    cancel: CancelToken | None = None,
    pause: PauseSwitch | None = None,
) -> Finished:
    """Train, and write the best parts to `options.out`.

    Raises:
        TrainingError: the model cannot be trained for, the corpus is too small, or the checkpoint belongs to
            another run.
    """
    return Trainer(model, corpus, config, options).run(on_event, cancel or CancelToken(), pause or PauseSwitch())


@dataclass
class _Best:
    step: int = -1
    parts: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    acceptance: Acceptance | None = None
    worse: int = 0

    @property
    def accepted(self) -> float:
        return self.acceptance.accepted_per_iteration if self.acceptance else -1.0


class Trainer:
    """One run: its parts, optimiser and place. `run` drives it; tests also call `gradient_step`."""

    def __init__(self, model: LanguageModel, corpus: Corpus, config: TrainingConfig, options: TrainingOptions) -> None:
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
            self.parts.bigrams = bigrams_for(model).to(model.device)
        self.optimizer = torch.optim.AdamW(self.parts.groups(config), betas=(0.9, 0.98))
        counts = torch.bincount(torch.cat(self.sequences), minlength=model.vocabulary_size)
        self.frequent = counts.topk(min(FREQUENT, model.vocabulary_size)).indices.to(model.device)
        self.store = PrefixStore(model, self.sequences, options.memory)
        self._held_store = PrefixStore(model, [h.ids for h in corpus.held_out], options.memory // 8)
        self.pace = Pace(0.0, 0.0, 0)
        if options.resume and options.checkpoint_path.exists():
            self._resume()

    @staticmethod
    def check_file(model: LanguageModel, lookahead: LookaheadEmbeddings) -> None:
        """
        Raises:
            LookaheadError: the file is for another model.
        """
        lookahead.check_model(
            hidden_size=model.hidden_size, layers=len(model.layers), name=model.name, fingerprint=model.fingerprint
        )

    # -- the run --------------------------------------------------------------------------------------------------

    def run(self, on_event: EventCallback | None, cancel: CancelToken, pause: PauseSwitch) -> Finished:
        """Drive the whole run; see `train`."""

        def report(event: Any) -> None:
            if on_event is not None and self.processes.main:
                on_event(event)

        with frozen(self.model):
            self.settle_steps()
            told = estimate(self.model, self.parts, self.config, self.sequences, self.options.memory, self.pace)
            report(Started(self.config, told, self.step, len(self.sequences), len(self.corpus.held_out)))
            if self.step == 0:
                report(self._evaluate())
            ending = Ending.COMPLETED
            while self.step < self.config.steps:
                pause.wait(cancel)
                if self.processes.agree(float(cancel.cancelled), self.model.device):
                    ending = Ending.CANCELLED
                    break
                report(self._one_step())
                last = self.step == self.config.steps
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
            finished = self._finish(ending)
            report(finished)
            return finished

    def _one_step(self) -> StepDone:
        started = time.perf_counter()
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
        self.step += 1
        took = time.perf_counter() - started
        self.seconds += took
        self._recent.append(took)
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
        """Put the gradient of the present step into the parts (summed over processes); returns the mean losses."""
        config = self.config
        self.optimizer.zero_grad(set_to_none=True)
        mine = self.processes.share(self._numbers(self.step))
        shown = {"loss": 0.0, "divergence": 0.0, "coherent": 0.0, "accepted": 0.0}
        late = self.step >= config.steps * (1 - config.acceptance_share)
        if mine:
            batch = self.store.batch([n for _, n in mine])
            generators = [step_generator(config.seed, self.step, place) for place, _ in mine]
            weights = place_weights(batch, config) if config.surprise else None
            chains = [
                place_chains(
                    [length],
                    config.rows,
                    config.lookahead,
                    config.survival,
                    generator,
                    weights=None if weights is None else weights[b : b + 1],
                )
                for b, (length, generator) in enumerate(zip(batch.lengths, generators, strict=True))
            ]
            acceptance = config.acceptance_weight if late else 0.0
            total, shown = batch_loss(
                self.model, self.parts, batch, chains, generators, self.frequent, config, acceptance
            )
            (total / config.batch).backward()
        self.processes.sum_gradients(self.parts.parameters())
        summed = self.processes.sum(shown, self.model.device)
        return {name: value / config.batch for name, value in summed.items()}

    def _numbers(self, step: int) -> list[int]:
        """The sequences of a step: every epoch is a new order from the seed."""
        numbers: list[int] = []
        size = len(self.sequences)
        for i in range(step * self.config.batch, (step + 1) * self.config.batch):
            epoch, place = divmod(i, size)
            numbers.append(epoch_order(size, self.config.seed, epoch)[place])
        return numbers

    def settle_steps(self) -> None:
        """Time a step whose prefixes are new and one whose prefixes are kept; turn minutes into steps."""
        if self.step:
            self.pace = Pace(self.seconds / self.step, self.seconds / self.step, 0)
            return
        times: list[float] = []
        for _ in range(2):
            started = time.perf_counter()
            self.gradient_step()
            self.optimizer.zero_grad(set_to_none=True)
            times.append(self.processes.agree(time.perf_counter() - started, self.model.device))
        self.pace = pace(times[0], times[1], self.sequences, self.config, self.store)
        if self.config.minutes:
            self.config = replace(self.config, steps=self.pace.steps_in(self.config.minutes * 60, self.config))

    # -- evaluation, files ----------------------------------------------------------------------------------------

    def evaluate(self, contexts: int | None = None) -> Acceptance:
        """Held-out acceptance of the present parts at the config's sampling settings."""
        return measure(
            self.model,
            self.parts,
            self.corpus.held_out,
            self._held_store,
            _settings(self.config, self.config.lookahead),
            contexts=contexts or self.config.evaluate_contexts,
            batch=self.config.batch,
        )

    def _evaluate(self) -> Evaluated:
        acceptance = self.evaluate()
        # What an untrained start reaches is a reference, not a result.
        result = self.step > 0 or self.options.init is not None
        better = result and acceptance.accepted_per_iteration > self.best.accepted
        if better:
            values = {k: v.detach().cpu().clone() for k, v in self.parts.state_dict().items()}
            self.best = _Best(self.step, values, acceptance)
            if self.processes.main:
                self.export(acceptance).save(self.options.out)
        elif result:
            self.best.worse += 1
        return Evaluated(self.step, acceptance, better)

    def export(self, acceptance: Acceptance | None) -> LookaheadEmbeddings:
        """The present parts as a look-ahead file's content, with their recipe."""
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
        return self.parts.to_lookahead(self.model, summary, self.options.dtype)

    def _checkpoint(self) -> CheckpointSaved:
        if self.processes.main:
            save_checkpoint(self.options.checkpoint_path, self.state())
        return CheckpointSaved(self.step, self.options.checkpoint_path)

    def state(self) -> RunState:
        """Everything a resumed run needs."""
        return RunState(
            config=self.config,
            fingerprint=self.model.fingerprint,
            data=self.digest,
            step=self.step,
            parts=self.parts.state_dict(),
            optimizer=self.optimizer.state_dict(),
            best_step=self.best.step,
            best_parts=self.best.parts,
            best_acceptance=self.best.acceptance.to_json() if self.best.acceptance else "",
            worse=self.best.worse,
            seconds=self.seconds,
        )

    def _resume(self) -> None:
        path = self.options.checkpoint_path
        state = load_checkpoint(path)
        if state.fingerprint != self.model.fingerprint:
            raise TrainingError(f"The checkpoint {path} is of another model. Load that model, or start a new run.")
        if state.data != self.digest:
            raise TrainingError(f"The checkpoint {path} was made with other data. Use the same data, or a new run.")
        asked = replace(self.config, steps=state.config.steps) if self.config.minutes else self.config
        if asked != state.config:
            different = [
                f for f in TrainingConfig.__dataclass_fields__ if getattr(asked, f) != getattr(state.config, f)
            ]
            raise TrainingError(
                f"The checkpoint {path} was made with other settings ({', '.join(different)}). "
                "Repeat them, or start a new run with --init and the file it made."
            )
        self.config = state.config
        self.parts.load_state_dict(state.parts)
        self.optimizer.load_state_dict(state.optimizer)
        self.step, self.seconds = state.step, state.seconds
        best = Acceptance.from_json(state.best_acceptance) if state.best_acceptance else None
        self.best = _Best(state.best_step, state.best_parts, best, state.worse)

    def _finish(self, ending: Ending) -> Finished:
        path = self.options.out if self.best.step >= 0 else None
        checkpoint = self.options.checkpoint_path
        return Finished(ending, self.step, self.best.step, self.best.acceptance, path, checkpoint)


def prepare(
    model: LanguageModel,
    config: TrainingConfig,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> None:
    """Read from the model what a run takes from it, so that `train` need not, which tells no progress of it.

    Raises:
        TrainingError: the model cannot be trained for. Cancelled.
    """
    refuse_untrainable(model)
    if config.uses_bigrams:
        bigrams_for(model, progress, cancel)


def preview(model: LanguageModel, config: TrainingConfig, *, sequences: int, memory: int = 2_000_000_000) -> Estimate:
    """Time and memory of a run on `sequences` texts, before there are any: one small step on random tokens is timed.

    Raises:
        TrainingError: the model cannot be trained for.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.vocabulary_size, (config.length,), generator=generator)
    probe = Corpus([ids], [HeldOut(ids, 1, "prose")], "probe")
    one = replace(config, batch=1, minutes=0.0, bigrams=False)  # which take a moment to read, and no time in a step
    trainer = Trainer(model, probe, one, TrainingOptions(out=Path("unused.safetensors"), memory=memory))
    with frozen(model):
        trainer.gradient_step()  # warms up
        trainer.store.forget()
        trainer.settle_steps()
    measured = trainer.pace.times(config.batch, sequences // config.batch)
    steps = measured.steps_in(config.minutes * 60, config) if config.minutes else config.steps
    return estimate(model, trainer.parts, replace(config, steps=steps), [ids] * sequences, memory, measured)


def measure_file(
    model: LanguageModel, lookahead: LookaheadEmbeddings, corpus: Corpus, config: TrainingConfig, *, walk: bool = False
) -> Acceptance:
    """Held-out acceptance of a file, at the places the trainer measures, or (`walk`) at those that decoding meets.

    Raises:
        LookaheadError: the file is for another model.
    """
    Trainer.check_file(model, lookahead)
    held = corpus.held_out
    bigrams = bigrams_for(model) if config.bigrams and lookahead.sampler is None else None
    parts, settings = parts_of(model, lookahead, bigrams), _settings(config, lookahead.count)
    store = PrefixStore(model, [h.ids for h in held], 0)
    with frozen(model):
        if walk:
            most = max(1, config.evaluate_contexts // len(held))
            return measure_decoding(model, parts, held, store, settings, iterations=most, batch=config.batch)
        return measure(model, parts, held, store, settings, contexts=config.evaluate_contexts, batch=config.batch)


def _settings(config: TrainingConfig, count: int) -> ChainSettings:
    return ChainSettings(min(5, count), config.temperature, config.top_k)
