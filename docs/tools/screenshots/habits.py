"""Takes the pictures of find, preferences, the history with tags, and a batch, by driving the real window.

    python docs/tools/screenshots/habits.py [--model …] [other options of main.py]

Every run and figure is real. Both themes are taken in one go.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import drive
from PySide6.QtWidgets import QTabWidget

from app.benchmark.page import BenchmarkPage
from app.history.listing import SortKey
from app.history.page import HistoryPage
from app.preferences.dialog import PreferencesDialog
from app.theme.apply import ThemeMode


class Photographer(drive.Photographer):
    """Walks through what people do every day."""

    async def walk(self) -> None:
        """Every picture."""
        await drive.until(lambda: self.context.lookahead is not None)
        await self.idle()
        generate = self.window.generate
        for k in (0, 3, 6):
            setup = generate.setup()
            self.context.setup.set(replace(setup, settings=replace(setup.settings, k=k)))
            generate.run()
            await drive.until(lambda: self.context.session.running)
            await self.idle()
        self.window.find_bar.open()
        self.window.find_bar.words.setText("road")
        self.window.find_bar.find_next()
        await self.shoot("find")
        self.window.find_bar.leave()
        await self.show_history()
        await self.show_preferences()
        await self.show_batch()

    async def show_history(self) -> None:
        """Tags, and the fastest run first."""
        page = self.window.page("history")
        assert isinstance(page, HistoryPage)
        self.window.show_page("history")
        await drive.until(lambda: len(page.model.entries) == 3)
        page.select([e.id for e in page.model.entries[:2]])
        page.tag_menu.add("paper")
        await drive.until(lambda: page.tags == {"paper": 2})
        page.table.sort_by(SortKey.SPEED, descending=True)
        await asyncio.sleep(0.5)
        page.select([e.id for e in page.model.entries])
        await drive.until(lambda: len(page.overlay.runs) == 3)
        await self.shoot("history-tags")

    async def show_preferences(self) -> None:
        """The dialog alone."""
        next(a for a in self.window.file_menu.actions() if a.text().startswith("Preferences")).trigger()
        dialog = self.window.findChild(PreferencesDialog)
        assert dialog is not None
        for mode in (ThemeMode.LIGHT, ThemeMode.DARK):
            self.context.theme.set_mode(mode)
            dialog.show_present()
            await asyncio.sleep(0.5)
            dialog.grab().save(str(drive.PICTURES / f"preferences-{mode.value}.png"))
        dialog.reject()

    async def show_batch(self) -> None:
        """Two settings with five seeds."""
        self.window.show_page("benchmark")
        page = self.window.findChild(BenchmarkPage)
        assert page is not None
        tabs = page.findChild(QTabWidget)
        assert tabs is not None
        tabs.setCurrentWidget(page.batch)
        page.batch.form.ks.setText("6")
        page.batch.form.tokens.setValue(24)
        page.batch.start()
        await self.idle()
        await self.shoot("batch")


def main(arguments: list[str]) -> None:
    """Open the window and take them all."""
    defaults = ["--size", "1280x800", "--seed", "3", "--max-new-tokens", "60", "--exit-after-run"]
    drive.in_window([*defaults, *arguments], lambda program: Photographer(program).walk())


if __name__ == "__main__":
    main(sys.argv[1:])
