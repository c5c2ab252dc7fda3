"""The user's present choices, as one value that pages edit and observe."""

from __future__ import annotations

from dataclasses import dataclass, field

from PySide6.QtCore import QObject, Signal

from pass_core.settings import DecodingSettings, StopConditions

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
        seed: of the next run.
        settings, stop: see pass_core.settings.
    """

    prompt_text: str = ""
    chat: bool = False
    seed: int = 0
    settings: DecodingSettings = field(default_factory=DecodingSettings)
    stop: StopConditions = field(default_factory=StopConditions)


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
        """Replace the present choices."""
        if setup != self._value:
            self._value = setup
            self.changed.emit(setup)
