"""The user's present choices, as one value that pages edit and observe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from pass_core.prompt import Message, Prompt
from pass_core.settings import BaselineSettings, DecodingSettings, RunSettings, StopConditions

if TYPE_CHECKING:
    from pass_core.records.types import RunRecord

MOST_USUAL_K = 6  # deeper drafts are seldom accepted; who wants them sets k


def usual_k(lookahead_count: int) -> int:
    """The draft length that is chosen until somebody chooses another: the file's L, at most MOST_USUAL_K."""
    return min(lookahead_count, MOST_USUAL_K)


@dataclass(frozen=True, slots=True)
class GenerationSetup:
    """What the next run is asked for.

    Attributes:
        prompt_text: what is in the prompt editor.
        chat: whether the model's chat template is applied to it.
        messages: the whole chat that the run answers (see `Prompt.messages`), where there is more than `prompt_text`.
        seed: of the next run.
        settings, stop: see pass_core.settings.
        baseline: what a baseline decodes with, where one wrote the run that these choices repeat; `settings` then has
            its sampling. Only panes of Compare run baselines.
    """

    prompt_text: str = ""
    chat: bool = False
    seed: int = 0
    settings: DecodingSettings = field(default_factory=DecodingSettings)
    stop: StopConditions = field(default_factory=StopConditions)
    baseline: BaselineSettings | None = None
    messages: tuple[Message, ...] = ()

    @property
    def prompt(self) -> Prompt:
        """What the run starts from.

        Raises:
            PromptError: `messages` are no chat that can be answered.
        """
        if self.messages:
            return Prompt.of_messages(self.messages)
        return Prompt(self.prompt_text, chat=self.chat)


def setup_from(
    prompt_text: str,
    chat: bool,
    seed: int,
    settings: RunSettings,
    stop: StopConditions,
    messages: tuple[Message, ...] = (),
) -> GenerationSetup:
    """The choices that ask for these settings."""
    if isinstance(settings, BaselineSettings):
        return GenerationSetup(
            prompt_text, chat, seed, DecodingSettings(sampling=settings.sampling), stop, baseline=settings
        )
    return GenerationSetup(prompt_text, chat, seed, settings, stop, messages=messages)


def setup_of(record: RunRecord) -> GenerationSetup:
    """The choices that repeat a run."""
    typed = record.typed
    prompt = record.prompt if typed is None else typed
    return setup_from(prompt, typed is not None, record.seed, record.settings, record.stop, record.messages)


class SetupModel(QObject):
    """Holds the present choices. A page that shows them follows `changed`, and calls `set` when the user edits.

    The Generate page's controls may not take every value (k ends at the file's L); what they show is set again then.

    Signals:
        changed(GenerationSetup): after the fact; never twice for the same value.
    """

    changed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._value = GenerationSetup()

    @property
    def value(self) -> GenerationSetup:
        """The present choices."""
        return self._value

    def set(self, setup: GenerationSetup) -> None:
        """Replace the present choices; a baseline is none of them."""
        setup = replace(setup, baseline=None)
        if setup != self._value:
            self._value = setup
            self.changed.emit(setup)
