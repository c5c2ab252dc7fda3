"""transformers' own generate as a decoder: plain, or with its prompt lookup, yielding the same step events as ours.

Loop, drafts, rule and random numbers are transformers'; nothing here decides a token. Hooks around the model see the
rows and logits of every forward pass, a stopping criterion sees the tokens that follow, and both together make the
events. Their seconds leave out the time of this watching.

transformers draws a token at every row and keeps copied drafts while they equal the drawn ones. Its random numbers come
from torch's generator, so the text of a seed is its own; only temperature 0 can repeat ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from pass_core.decoding.events import DraftSource, DraftStatus, PrefillInfo, Provenance, StepEvent, StopReason
from pass_core.decoding.state import StepOutcome
from pass_core.decoding.step_recorder import StepCost, StepRecorder
from pass_core.decoding.tree import ROOT, Draft, DraftTree, Emitted
from pass_core.engine import Engine
from pass_core.evaluation.baselines.same_thread import produced
from pass_core.evaluation.baselines.transformers_setup import as_sampled, as_transformers_made_it, generation_config
from pass_core.models.detokenizer import TokenBytes
from pass_core.models.language_model import LanguageModel
from pass_core.prompt import Prompt
from pass_core.sampling.distribution import Distribution
from pass_core.settings import BaselineSettings, StopConditions


class TransformersDecoder:
    """Fits the `Decoder` protocol. `settings.k` tokens are copied at a time; k = 0 is transformers' plain decoding.

    Args:
        engine: of the model; busy meanwhile.
    """

    def __init__(self, engine: Engine, settings: BaselineSettings) -> None:
        self._engine, self._settings = engine, settings

    def decode(
        self,
        prompt: Prompt | str | Sequence[int],
        *,
        stop: StopConditions | None = None,
        seed: int = 0,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[StepEvent]:
        """Generate text and yield one event for each forward pass; the last one carries the stop reason.

        Raises:
            PromptError: the prompt cannot be used.
            EngineBusy: another generation of the engine runs.
        """
        engine, settings = self._engine, self._settings
        with engine.exclusive():
            ids = engine.encode(prompt)

            def work(give: Callable[[StepEvent], None]) -> None:
                ends, ask = stop or StopConditions(), cancelled or (lambda: False)
                _Recording(engine.model, engine.token_bytes, ids, settings, ends, ask, give).generate(seed)

            yield from produced(work)


class _Recording:
    """Watches while transformers generates.

    Attributes:
        recorder: makes the events.
        cached: how many of them the next call finds in the cache.
    """

    def __init__(
        self,
        model: LanguageModel,
        token_bytes: TokenBytes,
        ids: Sequence[int],
        settings: BaselineSettings,
        stop: StopConditions,
        cancelled: Callable[[], bool],
        emit: Callable[[StepEvent], None],
    ) -> None:
        self.model, self.ids, self.settings, self.stop = model, list(ids), settings, stop
        self.cancelled, self.emit = cancelled, emit
        limit = model.capabilities.context_length
        self.recorder = StepRecorder(token_bytes, model.eos_token_ids, stop, len(ids), limit)
        self.limit = limit
        self.cached = 0
        self.begun = False
        self.ended = False
        self._begun = self._called = 0.0
        self._watched = 0.0  # seconds of the present step that were ours
        self._forward = 0.0
        self._rows: list[int] = []
        self._drafted: list[int] = []
        self._logits = torch.empty(0)

    @property
    def length(self) -> int:
        return self.recorder.length

    def generate(self, seed: int) -> None:
        """Run it to its end; every step is emitted."""
        from transformers import StoppingCriteria, StoppingCriteriaList

        if self.length >= self.limit:
            self._stopped(StopReason.CONTEXT_FULL)
            return
        if self.cancelled():
            self._stopped(StopReason.CANCELLED)
            return
        watcher = self

        class Watch(StoppingCriteria):
            def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
                over = watcher.step_ended(input_ids)
                return torch.full((input_ids.shape[0],), over, dtype=torch.bool, device=input_ids.device)

        model, device = self.model, self.model.device
        config = generation_config(
            self.settings.sampling,
            new_tokens=self.recorder.remaining,
            eos=[] if self.stop.ignore_eos else sorted(model.eos_token_ids),
            lookup=self.settings.k,
        )
        ids = torch.tensor([self.ids], device=device)
        cuda = [device.index or 0] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), as_transformers_made_it(model):
            torch.manual_seed(seed % 2**64)
            self._begun = self._now()
            before = model.model.register_forward_pre_hook(self._call_begins, with_kwargs=True)
            after = model.model.register_forward_hook(self._call_ended, with_kwargs=True)
            try:
                model.model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=config,
                    stopping_criteria=StoppingCriteriaList([Watch()]),
                )
            finally:
                before.remove()
                after.remove()
        if not self.ended:
            raise RuntimeError("transformers ended its text for a reason of its own")

    def step_ended(self, input_ids: torch.Tensor) -> bool:
        """Emit the step that gave these tokens; whether the text is over."""
        now = self._now()
        new: list[int] = input_ids[0, self.length :].tolist()
        outcome = self._outcome(new)
        cost = StepCost(len(self._rows), tuple(self._rows), 0, self._forward)
        took = now - self._begun - self._watched
        event = self.recorder.record(outcome, cost, self.settings, None, lambda: took)
        self.emit(event)
        self.ended = event.stop_reason is not None
        self.begun, self.cached = True, self.length - 1
        if not self.ended and self.cancelled():
            self._stopped(StopReason.CANCELLED)
        self._rows, self._forward, self._watched = [], 0.0, 0.0
        self._begun = self._now()
        return self.ended

    def _call_begins(self, module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Split the first pass, which carries the whole prompt: all tokens but the last become a pass of their own, as
        in our strategies, so that prefill is timed apart (where the model's cache is known to allow that)."""
        if not self._rows and not self.begun:
            kwargs = self._read_prompt(module, kwargs)
        self._called = self._now()
        return args, kwargs

    def _read_prompt(self, module: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        cached = self.length - 1
        cache = kwargs.get("cache", kwargs.get("past_key_values"))  # renamed on the way to transformers 6
        if cached < 1 or cache is None or not self.model.capabilities.supports_pass:
            return kwargs
        first, rest = dict(kwargs), dict(kwargs)
        for name in ("input_ids", "position_ids", "attention_mask"):
            given = kwargs.get(name)
            if given is not None:
                first[name] = given[..., :cached]
                rest[name] = given if name == "attention_mask" else given[..., cached:]
        if "logits_to_keep" in kwargs:
            first["logits_to_keep"] = 1
        module.forward(**first)
        now = self._now()
        self.recorder.prefill = PrefillInfo(self.length, now - self._begun, 1)  # transformers' preparations with it
        self._begun, self.cached = now, cached
        return rest

    def _call_ended(self, module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        now = self._now()
        self._forward += now - self._called
        rows = int(kwargs["input_ids"].shape[1])
        copied = rows - (self.length - self.cached)
        self._rows.append(rows)
        self._drafted = kwargs["input_ids"][0, rows - copied :].tolist()
        # A copy: transformers works on the logits in place.
        self._logits = output.logits[0, -(copied + 1) :].to(torch.float32, copy=True)
        self._watched += time.perf_counter() - now

    def _outcome(self, new: list[int]) -> StepOutcome:
        """What came of the copied drafts, by comparing them with the text as transformers does."""
        drafted = self._drafted
        targets = as_sampled(self._logits, self.settings.sampling)
        right = next((i for i, (d, t) in enumerate(zip(drafted, new)) if d != t), min(len(drafted), len(new)))
        tree = DraftTree()
        for i, token in enumerate(drafted):
            draft = Draft(token, ROOT if i == 0 else i - 1, i + 1, Distribution.certain(token), DraftSource.LOOKUP)
            if i <= right and i < len(new):
                draft.status = DraftStatus.ACCEPTED if i < right else DraftStatus.REJECTED
                draft.target = targets[i]
            tree.add(draft)
        emitted: list[Emitted] = []
        for i, token in enumerate(new):
            if i < len(drafted):
                kind = Provenance.ACCEPTED if i < right else Provenance.CORRECTED
                source = DraftSource.LOOKUP if i < right else None
                emitted.append(Emitted(token, kind, targets[i], i + 1, tree.drafts[i].distribution, source))
            else:
                emitted.append(Emitted(token, Provenance.BONUS if drafted else Provenance.MODEL, targets[i]))
        return StepOutcome(emitted, tree)

    def _stopped(self, reason: StopReason) -> None:
        """A last step that emits nothing but the reason."""
        self.ended = True
        self.emit(self.recorder.stopped(self.settings, reason))

    def _now(self) -> float:
        if self.model.device.type != "cpu":
            torch.get_device_module(self.model.device).synchronize(self.model.device)
        return time.perf_counter()
