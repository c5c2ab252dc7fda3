"""What is stored of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pass_core.decoding.events import StepEvent
from pass_core.decoding.summary import Summary, summarize
from pass_core.prompt import Message, Prompt
from pass_core.settings import RunSettings, StopConditions


class RunStatus(StrEnum):
    """Whether the recorded steps are all there were."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"  # the program ended before the run did


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model made a run: name and source as in LanguageModel, fingerprint of the weights."""

    name: str = ""
    source: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class LookaheadInfo:
    """Which look-ahead embeddings made a run: origin (path or label), 16 hex digits over the tensors, L."""

    origin: str = ""
    hash: str = ""
    count: int = 0
    trained: bool = False


@dataclass(frozen=True, slots=True)
class Environment:
    """What a run was made with: versions, device ("cpu", "cuda:0") and its name, dtype ("bfloat16"), CPU threads."""

    program: str = ""
    python: str = ""
    torch: str = ""
    transformers: str = ""
    system: str = ""
    device: str = ""
    device_name: str = ""
    dtype: str = ""
    threads: int = 0


@dataclass(frozen=True)
class RunRecord:
    """One generation with all that is needed to show it again or to repeat it.

    Attributes:
        id: unique, 32 hex digits.
        created: when it began (UTC).
        title: what a person calls it; "" until named.
        prompt: the text given to the model, chat template included.
        typed: what the user typed where a chat template made the prompt of it, else None.
        messages: the whole chat where it has more than `typed` (see `Prompt.messages`), else empty.
        seed, settings, stop: as given at the start (each step carries the settings then in force).
        model, lookahead, environment: what made it; lookahead is None where no drafts were asked for.
        steps: every step event, in order.
        status: running, finished or interrupted.
        group: the same for all runs of one comparison, "" outside of one.
    """

    id: str
    created: datetime
    prompt: str
    seed: int
    settings: RunSettings
    stop: StopConditions = field(default_factory=StopConditions)
    title: str = ""
    typed: str | None = None
    messages: tuple[Message, ...] = ()
    model: ModelInfo = ModelInfo()
    lookahead: LookaheadInfo | None = None
    environment: Environment = Environment()
    steps: tuple[StepEvent, ...] = field(default=(), repr=False)
    status: RunStatus = RunStatus.FINISHED
    group: str = ""

    @property
    def source(self) -> Prompt:
        """What the run started from."""
        if self.messages:
            return Prompt.of_messages(self.messages)
        return Prompt(self.prompt) if self.typed is None else Prompt(self.typed, chat=True)

    @property
    def text(self) -> str:
        """The generated text, without the stop string that ended it."""
        text = "".join(t.text for s in self.steps for t in s.tokens)
        overlap = self.steps[-1].stop_overlap if self.steps else 0
        return text[: len(text) - overlap] if overlap else text

    @property
    def summary(self) -> Summary:
        """Totals, folded anew from the steps."""
        return summarize(self.steps)
