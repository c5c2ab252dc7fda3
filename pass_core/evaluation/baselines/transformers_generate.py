"""transformers' own generate with its prompt lookup, told as step events.

Loop, drafts, rule and random numbers are transformers'; nothing here decides a token. Hooks around the model see the
rows and logits of every call, a stopping criterion sees what came of it, and both together make the same frozen events
that our strategies give. What looking on costs is left out of the seconds.

transformers draws a token at every row and keeps copied drafts while they equal the drawn ones. Its random numbers come
from torch's generator, so the text of a seed is its own; only temperature 0 can repeat ours.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from pass_core.decoding.events import DraftSource, DraftStatus, PrefillInfo, Provenance, StepEvent, StopReason
from pass_core.decoding.state import StepOutcome
from pass_core.decoding.step_recorder import StepCost, StepRecorder
from pass_core.decoding.tree import ROOT, Draft, DraftTree, Emitted
from pass_core.models.detokenizer import TokenBytes
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.packed import plain_linears
from pass_core.sampling.distribution import Distribution
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions


def lookup_steps(
    model: LanguageModel,
    ids: Sequence[int],
    settings: DecodingSettings,
    stop: StopConditions,
    seed: int,
    cancelled: Callable[[], bool],
) -> Iterator[StepEvent]:
    """One generation by transformers: k tokens are copied at a time; k = 0 is its plain decoding.

    Sampling, k and length are fixed when it starts. `generate` does not hand its loop out, so it runs in a thread of
    its own, which has ended when this iterator has.
    """
    events: queue.SimpleQueue[StepEvent | BaseException | None] = queue.SimpleQueue()
    left = threading.Event()
    watcher = _Watcher(model, ids, settings, stop, lambda: left.is_set() or cancelled(), events.put)

    def work() -> None:
        try:
            watcher.generate(seed)
        except BaseException as error:
            events.put(error)
        else:
            events.put(None)

    thread = threading.Thread(target=work, name="transformers", daemon=True)
    thread.start()
    try:
        while (event := events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        left.set()
        thread.join()


@contextlib.contextmanager
def as_transformers_made_it(model: LanguageModel) -> Generator[None]:
    """transformers without our packed layers, and without the sampling habits of the model's generation_config.json
    (which would fill in whatever a GenerationConfig leaves open: end tokens, penalties, top-p)."""
    from transformers import GenerationConfig

    habits = model.model.generation_config
    model.model.generation_config = GenerationConfig()
    try:
        with torch.inference_mode(), plain_linears(model):
            yield
    finally:
        model.model.generation_config = habits


def generation_config(
    sampling: SamplingSettings, *, new_tokens: int, eos: Sequence[int], lookup: int
) -> Any:  # a transformers.GenerationConfig
    """Temperature, top-k, length, end tokens and copied tokens (0: none) as transformers takes them."""
    from transformers import GenerationConfig

    options: dict[str, Any] = {
        "max_new_tokens": new_tokens,
        "eos_token_id": list(eos) or None,
        "pad_token_id": eos[0] if eos else 0,
        "repetition_penalty": 1.0,
        "use_cache": True,
        "do_sample": sampling.temperature > 0,
    }
    if sampling.temperature > 0:
        options |= {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": 1.0}
    if lookup:
        options["prompt_lookup_num_tokens"] = lookup
    return GenerationConfig(**options)


class _Watcher:
    """Looks on while transformers generates.

    Attributes:
        recorder: makes the events.
        cached: how many of them the next call finds in the cache.
    """

    def __init__(
        self,
        model: LanguageModel,
        ids: Sequence[int],
        settings: DecodingSettings,
        stop: StopConditions,
        cancelled: Callable[[], bool],
        emit: Callable[[StepEvent], None],
    ) -> None:
        self.model, self.ids, self.settings, self.stop = model, list(ids), settings, stop
        self.cancelled, self.emit = cancelled, emit
        limit = model.capabilities.context_length
        self.recorder = StepRecorder(TokenBytes(model.tokenizer), model.eos_token_ids, stop, len(ids), limit)
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
            torch.manual_seed(seed)
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
        """The first call carries the whole prompt. All but its last token become a call of their own, as our strategies
        have it, so that reading the prompt is timed apart (where a model's cache is known to allow that)."""
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


def as_sampled(logits: torch.Tensor, sampling: SamplingSettings) -> list[Distribution]:
    """The distributions that transformers samples from: its own warpers, which keep every tie at the edge of top-k.

    Args:
        logits: float32 [n, vocabulary].
    """
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper

    if sampling.temperature == 0:
        return [Distribution(np.array([i]), np.zeros(1)) for i in logits.argmax(-1).tolist()]
    ids: Any = None
    scores: Any = TemperatureLogitsWarper(sampling.temperature)(ids, logits)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(ids, scores)
    out: list[Distribution] = []
    for row in torch.log_softmax(scores, dim=-1).cpu().numpy().astype(np.float64):
        kept = np.flatnonzero(np.isfinite(row))
        if sampling.top_k:
            kept = kept[np.argsort(-row[kept], kind="stable")]
        out.append(Distribution(kept, row[kept]))
    return out
