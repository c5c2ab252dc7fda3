"""Shows how PASS works by a step of the user's own run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from app.tour.how_it_works import HowItWorks

if TYPE_CHECKING:
    from app.engine.run import Run
    from app.state.context import AppContext


def explain_run(context: AppContext, run: Run | None, parent: QWidget) -> None:
    """Show one step of a run, drawn and told."""
    if run is None:
        context.notify("Run something first: a step of your own run shows how PASS works.")
        return
    dialog = HowItWorks(run.events, run.request.prompt_text, context.theme, parent)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()
