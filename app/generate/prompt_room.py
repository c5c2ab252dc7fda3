"""How much of the model's context the prompt of the Generate page takes, and the way out when it takes all of it."""

from __future__ import annotations

from collections.abc import Callable

from app.generate.prompt_length import prompt_tokens, without_start
from app.state.context import AppContext, WayOut
from app.state.setup import GenerationSetup
from app.widgets.prompt_editor import PromptEditor


class PromptRoom:
    """Counts what is in the editor.

    Args:
        setup: the choices that the page shows.
        changed: called after the prompt was cut.
    """

    def __init__(
        self,
        context: AppContext,
        editor: PromptEditor,
        setup: Callable[[], GenerationSetup],
        changed: Callable[[], None],
    ) -> None:
        self._context, self._editor, self._setup, self._changed = context, editor, setup, changed

    def count(self) -> int:
        """Show how many tokens the prompt has; 0 where that is not known."""
        model, chat = self._context.model, self._editor.chat.isChecked()
        tokens = prompt_tokens(self._context.engine, self._editor.text(), chat=chat)
        self._editor.show_count(tokens, None if model is None else model.capabilities.context_length)
        return tokens or 0

    def refuses(self) -> bool:
        """Whether the prompt leaves no room for a single token; the banner says so and offers to cut it."""
        tokens, model = self.count(), self._context.model
        if model is None or tokens < model.capabilities.context_length:
            return False
        self.report(tokens)
        return True

    def report(self, tokens: int) -> None:
        """Say that the prompt fills the context."""
        limit = self._context.model.capabilities.context_length if self._context.model is not None else 0
        self._context.report_error(
            f"The prompt has {tokens:,} tokens, and that fills the model's context of {limit:,}. Shorten it.",
            way_out=WayOut("Cut the start", self._cut_start),
        )

    def _cut_start(self) -> None:
        if (engine := self._context.engine) is not None:
            s = self._setup()
            new_tokens = s.stop.max_new_tokens
            self._editor.set_text(without_start(engine, s.prompt_text, chat=s.chat, new_tokens=new_tokens))
            self._changed()
