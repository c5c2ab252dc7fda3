"""The pages of the window, one folder or file each; `register_pages` puts them into the rail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.context import AppContext
    from app.window import MainWindow


def register_pages(window: MainWindow, context: AppContext) -> None:
    """Add every page but Generate (which the window owns), in the order of the rail."""
