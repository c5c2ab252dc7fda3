"""One generation as the window sees it: what was asked, what came back."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from pass_core.decoding.events import StepEvent
from pass_core.decoding.summary import Summary, SummaryBuilder
from pass_core.prompt import Message, Prompt
from pass_core.settings import DecodingSettings, RunSettings, StopConditions

if TYPE_CHECKING:
    from pass_core.lookahead.embeddings import LookaheadEmbeddings


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Everything that starts a generation.

    Attributes:
        prompt: exactly what the model reads (chat template already applied).
        prompt_text: what the user typed.
        chat: whether the model's chat template was applied to `prompt_text`.
        messages: the whole chat, where there is more of it than `prompt_text`.
        seed: of every random draw of the run.
        settings: the settings at the start; `EngineSession.set_settings` replaces our engine's while it runs.
        stop: its stop conditions.
        lookahead: the drafts' embeddings, None for the untrained fallback.
        recorded: whether the history keeps it (a warm-up is not kept).
        live: asked by the worker (in its thread) before every step instead of the session's live settings.
        label: a short name for history and legends.
        group: the same for all runs of one comparison, "" outside of one.
    """

    prompt: str
    prompt_text: str
    settings: RunSettings
    stop: StopConditions = field(default_factory=StopConditions)
    seed: int = 0
    chat: bool = False
    lookahead: LookaheadEmbeddings | None = None
    recorded: bool = True
    live: Callable[[], DecodingSettings] | None = None
    label: str = ""
    group: str = ""
    messages: tuple[Message, ...] = ()

    @property
    def source(self) -> Prompt:
        """What the engine starts from."""
        if self.messages:
            return Prompt.of_messages(self.messages)
        return Prompt(self.prompt_text, chat=True) if self.chat else Prompt(self.prompt)


class Run(QObject):
    """A running or finished generation; lives in the GUI thread and grows as events arrive.

    Attributes:
        id: counts up within this process; events of other ids are stale.
        uid: unique for ever, for the history.
        model_name, model_source, model_fingerprint, device, dtype: the model it ran on.
        events: the steps so far, in order.
        totals: folds them.
        error: the exception that ended it, None otherwise.
        done: whether no further event will come.

    Signals:
        steps_arrived(list[StepEvent]): after they were added to `events`.
        progressed(): a few times a second, and before the end: for figures and whatever else need not follow each step.
        finished(): once, when the session is free again.
    """

    steps_arrived = Signal(list)
    progressed = Signal()
    finished = Signal()

    def __init__(
        self,
        id: int,
        request: RunRequest,
        *,
        model_name: str = "",
        model_source: str = "",
        model_fingerprint: str = "",
        device: str = "",
        dtype: str = "",
    ) -> None:
        super().__init__()
        self.id, self.request = id, request
        self.model_name, self.model_source, self.model_fingerprint = model_name, model_source, model_fingerprint
        self.device, self.dtype = device, dtype
        self.uid = uuid.uuid4().hex
        self.started = datetime.now(UTC)
        self.events: list[StepEvent] = []
        self.totals = SummaryBuilder()
        self.error: BaseException | None = None
        self.done = False

    def add(self, steps: list[StepEvent]) -> None:
        """Take steps that arrived, and tell."""
        self.events.extend(steps)
        for step in steps:
            self.totals.add(step)
        self.steps_arrived.emit(steps)

    def end(self, error: BaseException | None) -> None:
        """Take the end; the session then emits `finished`."""
        self.error, self.done = error, True

    @property
    def summary(self) -> Summary:
        """The figures so far."""
        return self.totals.summary()

    @property
    def text(self) -> str:
        """The generated text so far; without the stop string, when one ended the run."""
        text = "".join(t.text for e in self.events for t in e.tokens)
        overlap = self.events[-1].stop_overlap if self.events else 0
        return text[: len(text) - overlap]
