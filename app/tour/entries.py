"""Where the tour begins: by itself at the first start, and in the Help menu."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.tour.tour import SEEN, Tour, start_tour

if TYPE_CHECKING:
    from app.state.context import AppContext
    from app.window import MainWindow


def add_help_entries(window: MainWindow, context: AppContext) -> None:
    """The tour, and how PASS works, at the top of the Help menu."""
    first = window.help_menu.actions()[0]
    for text, work in (
        ("Tour of the window", lambda: start_tour(window, context.theme)),
        ("How PASS works, by your last run…", window.generate.explain),
    ):
        action = window.help_menu.addAction(text, work)
        window.help_menu.insertAction(first, action)


def tour_once(window: MainWindow, context: AppContext) -> Tour | None:
    """Begin the tour unless it began at an earlier start, or nobody looks."""
    if not context.preferences.remembers or context.preferences.get(SEEN, False):
        return None
    context.preferences.set(SEEN, True)
    return start_tour(window, context.theme)
