"""The engine: all that belongs to one loaded model on its device, and the one way to generate with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from pass_core.decoding.events import StepEvent
from pass_core.decoding.loop import Generation
from pass_core.decoding.resources import Resources
from pass_core.files import cache_folder
from pass_core.kernels.factory import device_steps, make_kernels
from pass_core.kernels.interface import Kernels
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import LookaheadEmbeddings, mean_embedding
from pass_core.models import prompts
from pass_core.models.detokenizer import TokenBytes
from pass_core.models.language_model import LanguageModel
from pass_core.models.loading import unload
from pass_core.models.memory import release_memory
from pass_core.progress import CancelToken, Progress, ProgressCallback
from pass_core.prompt import Prompt
from pass_core.runtime.base import Runtime
from pass_core.runtime.bigram_reader import kept_bigrams, read_bigrams
from pass_core.runtime.cost import CostModel, kept_or_measured
from pass_core.runtime.factory import make_runtime
from pass_core.runtime.forward_weights import ForwardWeights, forward_weights
from pass_core.sampling.rules import VerificationRule
from pass_core.settings import DecodingSettings, LookaheadPart, StopConditions, Strategy

REHEARSED_ROWS = 16


class EngineBusy(RuntimeError):
    """A second generation was asked for while one runs."""


class OutOfMemory(MemoryError):
    """The device's memory is full; the message says what to do. The engine has freed what it can make again."""


class Engine:
    """Generates with one loaded model, one text at a time. Make it and use it in one thread.

    Making an engine is cheap. `prepare` does what is slow. Where it was not called, `decode` does it before its first
    step, never inside one.

    Args:
        runtime, kernels, cost, bigrams: in place of those that the engine would make, measure and read.
        cache: folder of measured costs and read bigrams; the user's cache folder by default.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        runtime: Runtime | None = None,
        kernels: Kernels | None = None,
        cost: CostModel | None = None,
        bigrams: Bigrams | None = None,
        cache: Path | None = None,
    ) -> None:
        self.model = model
        self._cache = cache or cache_folder()
        self._runtime, self._kernels, self._cost, self._bigrams = runtime, kernels, cost, bigrams
        self._given_cost = cost
        self._costs: dict[str, CostModel] = {}  # by the parts of the embeddings
        self._token_bytes: TokenBytes | None = None
        self._lock = threading.Lock()

    @property
    def runtime(self) -> Runtime:
        """Runs the model's forward passes; made on first use (weights are packed then)."""
        if self._runtime is None:
            self._runtime = make_runtime(self.model)
        return self._runtime

    @property
    def kernels(self) -> Kernels:
        """Compute samples, draft trees and shapes of passes; chosen on first use."""
        if self._kernels is None:
            self._kernels = make_kernels(self.model, self.runtime)
        return self._kernels

    @property
    def cost(self) -> CostModel:
        """Seconds of a forward pass by rows on this machine; measured on first use unless kept from before."""
        return self._cost if self._cost is not None else self.cost_with(None)

    def cost_with(self, lookahead: LookaheadEmbeddings | None) -> CostModel:
        """The same for PASS calls with these embeddings and all their parts (None: the untrained ones)."""
        if self._given_cost is not None:
            return self._given_cost
        model = self.model
        parts = "none"
        if model.capabilities.supports_pass:
            lookahead = lookahead or mean_embedding(model.input_embedding.weight)
            parts = f"{lookahead.count}" + "".join(f"+{part.name}" for part in lookahead.parts())
        if parts not in self._costs:
            self._costs[parts] = kept_or_measured(
                model, self.runtime, self._cache, lookahead, lambda cost: self._rehearse(cost, lookahead)
            )
        self._cost = self._costs[parts]
        return self._cost

    def _rehearse(self, cost: CostModel, lookahead: LookaheadEmbeddings | None) -> None:
        """Write a few tokens, plainly and with drafts, so that it is known what steps take outside their calls."""
        if lookahead is None:
            return
        trial = cost.fresh()
        resources = Resources(self.model, self.runtime, self.kernels, self.token_bytes, trial, self.bigrams)
        for tokens in (4, 12):  # what is slow the first time is not counted
            trial.host.clear()
            for rows in (1, REHEARSED_ROWS):
                settings = DecodingSettings(auto=False, row_budget=rows)
                stop = StopConditions(tokens, ignore_eos=True)
                run = Generation(resources, [0, 0], lookahead, stop, 0, lambda: False)
                for _ in run.steps(lambda: settings, None):  # noqa: B023
                    pass
        cost.host.update(trial.host)

    def _capture_steps(self, cost: CostModel, lookahead: LookaheadEmbeddings | None) -> None:
        """Write a few tokens in each way, so that no text waits for the capture of usual steps."""
        resources = Resources(self.model, self.runtime, self.kernels, self.token_bytes, cost, self.bigrams)
        ways = [DecodingSettings(Strategy.AUTOREGRESSIVE)]
        ways += [DecodingSettings(auto=False, row_budget=rows) for rows in (1, REHEARSED_ROWS)]
        for settings in ways:
            stop = StopConditions(6, ignore_eos=True)
            run = Generation(resources, [0, 0], lookahead, stop, 0, lambda: False)
            for _ in run.steps(lambda: settings, None):  # noqa: B023
                pass

    @property
    def bigrams(self) -> Bigrams | None:
        """The model's own bigrams where they were read before, in this process or an earlier one."""
        if self._bigrams is None and self.model.capabilities.supports_pass:
            self._bigrams = kept_bigrams(self.model, self._cache)
        return self._bigrams

    @property
    def forward_weights(self) -> ForwardWeights | None:
        """What forward passes compute with; None before the runtime is made."""
        return None if self._runtime is None else forward_weights(self.model, self._runtime)

    @property
    def token_bytes(self) -> TokenBytes:
        """What each token adds to the text."""
        if self._token_bytes is None:
            self._token_bytes = TokenBytes(self.model.tokenizer)
        return self._token_bytes

    def prepare(
        self,
        lookahead: LookaheadEmbeddings | None = None,
        *,
        disabled: frozenset[LookaheadPart] = frozenset(),
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        """Do what is slow now, so that the first text need not wait: pack weights, capture and measure forward passes.

        With `lookahead`, also read the model's bigrams where these embeddings are drafted with them.

        Args:
            disabled: parts that drafts do without.

        Raises:
            Cancelled: before all was ready; what was done stays.
        """
        cancel = cancel or CancelToken()
        say = progress or (lambda _: None)
        if self._runtime is None:
            say(Progress("Preparing the weights", 0, None))
            cancel.raise_if_cancelled()
        runtime = self.runtime
        self.token_bytes  # noqa: B018 (made now)
        if not self.model.capabilities.supports_pass:
            return
        runtime.warm_up(progress, cancel)
        if self._cost is None:
            say(Progress("Measuring this machine", 0, None))
            cancel.raise_if_cancelled()
        cost = self.cost_with(lookahead)
        if lookahead is not None and drafts_with_bigrams(lookahead, disabled):
            self.read_bigrams(progress, cancel)
        if device_steps(self.kernels, runtime) is not None:
            say(Progress("Capturing whole steps", 0, None))
            cancel.raise_if_cancelled()
            self._capture_steps(cost.fresh(), lookahead)

    def read_bigrams(self, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> Bigrams:
        """The model's bigrams, read from the model now unless they are kept (some seconds for a small model, once).

        Raises:
            Cancelled: between two forward passes; nothing is kept.
        """
        bigrams = self.bigrams
        if bigrams is None:
            bigrams = self._bigrams = read_bigrams(self.model, self.runtime, self._cache, progress, cancel)
        return bigrams

    def encode(self, prompt: Prompt | str | Sequence[int]) -> list[int]:
        """Token ids of a prompt; see `pass_core.models.prompts.encode`."""
        return prompts.encode(self.model, prompt)

    def decode(
        self,
        prompt: Prompt | str | Sequence[int],
        settings: DecodingSettings | Callable[[], DecodingSettings],
        *,
        lookahead: LookaheadEmbeddings | None = None,
        stop: StopConditions | None = None,
        seed: int = 0,
        cancelled: Callable[[], bool] | None = None,
        rule: VerificationRule | None = None,
    ) -> Iterator[StepEvent]:
        """Generate text and yield one frozen event for each step; the last one carries the stop reason.

        Under the coupled rule the tokens depend on model, prompt, seed and sampling settings alone: every strategy, k
        and look-ahead file gives the same text.

        Args:
            prompt: a prompt, plain text, or token ids.
            settings: fixed, or a callable that is asked before every step.
            lookahead: the drafts' embeddings; without any, drafting strategies use the untrained mean embedding.
            stop: when to end; StopConditions() by default.
            seed: of all random numbers of this run.
            cancelled: asked before every forward pass; True ends the run with StopReason.CANCELLED.
            rule: replaces the verification rule of the settings (for experiments that test the tests).

        Raises:
            PromptError: the prompt cannot be used.
            UnsupportedStrategy: a drafting strategy on a model that cannot roll its cache back.
            LookaheadError: the embeddings do not fit the model.
            EngineBusy: another generation of this engine runs.
            OutOfMemory: the device has too little memory for this text.
        """
        ask = settings if callable(settings) else lambda: settings
        with self.exclusive():
            ids = self.encode(prompt)
            first = ask()
            may_draft = callable(settings) or first.strategy is not Strategy.AUTOREGRESSIVE
            resources = Resources(self.model, self.runtime, self.kernels, self.token_bytes)
            if may_draft and self.model.capabilities.supports_pass:
                # Settings that change while the text is written may ask for the costs later.
                needs_cost = callable(settings) or (first.strategy is Strategy.FUSED and first.auto and first.k > 0)
                resources.bigrams = self.bigrams
                resources.cost = self.cost_with(lookahead) if needs_cost else self._cost
            run = Generation(resources, ids, lookahead, stop or StopConditions(), seed, cancelled or (lambda: False))
            yield from run.steps(ask, rule)

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Holds the model for one generation; other decoders that use the model's weights ask for it, too.

        Raises:
            EngineBusy: another generation runs.
            OutOfMemory: the device has too little memory for this text.
        """
        if not self._lock.acquire(blocking=False):
            raise EngineBusy("A generation is running with this model already. Stop it first.")
        try:
            yield
        except torch.OutOfMemoryError as error:
            self._runtime = None  # its buffers and graphs; made again by the next text
            release_memory()
            raise OutOfMemory(
                f"The memory of {self.model.device} is full. Choose fewer new tokens, a smaller row budget or "
                "model, or close other programs that use this device."
            ) from error
        finally:
            self._lock.release()

    def close(self) -> None:
        """Free the model's memory; neither engine nor model can be used afterwards. Nothing may be generating.

        The engine's own parts go first: they hold the model's weights, packed once more.
        """
        self._kernels = None  # before the runtime, whose library object it uses
        self._costs.clear()
        self._runtime = self._cost = self._given_cost = self._bigrams = self._token_bytes = None
        unload(self.model)


def drafts_with_bigrams(lookahead: LookaheadEmbeddings, disabled: frozenset[LookaheadPart] = frozenset()) -> bool:
    """Whether drafts of these embeddings are fitted with the model's own bigrams: where no sampler does it."""
    return LookaheadPart.BIGRAMS not in disabled and lookahead.without(disabled).sampler is None
