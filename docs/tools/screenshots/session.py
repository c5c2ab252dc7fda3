"""Takes the pictures of comparison, divergence, race, inspector, replay and history, by driving the real window.

    python docs/tools/screenshots/session.py [--theme light|dark] [--model …] [other options of main.py]

Without --theme both are taken, one process each. The pictures go beside this file.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import drive
from drive import until

from app.application import Program
from app.compare.page import ComparePage
from app.compare.ready import READY
from app.history.page import HistoryPage
from app.inspector.page import InspectPage
from pass_core.settings import Strategy


class Photographer:
    """Walks through the pages as a person would."""

    def __init__(self, program: Program, theme: str) -> None:
        self.program, self.theme = program, theme
        self.window, self.context = program.window, program.context

    async def shoot(self, name: str) -> None:
        """Take a picture."""
        await drive.shoot(self.program, name, self.theme)

    async def generate(self, **changes: object) -> None:
        """A run on the Generate page with changed settings."""
        page = self.window.generate
        setup = page.setup()
        self.context.setup.set(replace(setup, settings=replace(setup.settings, **changes)))
        page.run()
        await until(lambda: self.context.session.running)
        await until(lambda: not self.context.session.running)

    async def compare(self, ready: int, rounds: int) -> ComparePage:
        """One of the ready comparisons, to its end."""
        page = self.window.page("compare")
        assert isinstance(page, ComparePage)
        self.window.show_page("compare")
        page.head.ready.activated.emit(ready + 1)
        page.head.rounds.setValue(rounds)
        page.compare()
        await until(lambda: page.runner.running)
        await until(lambda: not page.runner.running)
        page.overlay.redraw()
        return page

    async def take_all(self) -> None:
        """Every picture of this theme, once the model is there."""
        await until(lambda: self.context.lookahead is not None)
        titles = [title for title, _, _ in READY]
        page = await self.compare(titles.index("Plain against PASS"), 2)
        await self.shoot("compare")
        page.race.seek(page.race.duration * 0.45)
        await self.shoot("race")
        page = await self.compare(titles.index("Coupled against rejection"), 1)
        await self.shoot("divergence")

        await self.generate(strategy=Strategy.FUSED, auto=False, k=4, row_budget=32)
        inspect = self.window.page("inspect")
        assert isinstance(inspect, InspectPage)
        inspect.open_newest()
        timeline = inspect.viewer.replay.timeline
        step = max(timeline.steps, key=lambda s: (min(s.accepted, 2), -abs(len(s.drafts) - 10)))
        inspect.viewer.inspect_token(step.tokens[max(0, len(step.tokens) - 2)].index)
        await self.shoot("inspector")
        inspect.viewer.replay.seek(timeline.tokens * 3 // 5)
        inspect.viewer.tabs.setCurrentIndex(1)
        inspect.viewer.plots.redraw()
        await self.shoot("replay")

        for changes in (
            {"strategy": Strategy.AUTOREGRESSIVE},
            {"strategy": Strategy.FUSED, "auto": True, "row_budget": None},
        ):
            await self.generate(**changes)
        await self.show_history()

    async def show_history(self) -> None:
        """The list with some runs overlaid."""
        page = self.window.page("history")
        assert isinstance(page, HistoryPage)
        self.window.show_page("history")
        await until(lambda: len(page.model.entries) >= 3)
        for number, title in ((0, "auto tree"), (1, "baseline")):
            page.model.setData(page.model.index(number, 1), title)
        await asyncio.sleep(0.5)
        page.select([page.model.entries[0].id])
        page.pin_button.click()
        await asyncio.sleep(0.5)
        page.select([e.id for e in page.model.entries[:3]])
        await until(lambda: len(page.overlay.runs) == 3)
        await asyncio.sleep(0.3)
        page.overlay.redraw()
        await self.shoot("history")


def main(arguments: list[str]) -> None:
    """Both themes in processes of their own, or the one that was asked for."""
    theme = drive.theme_of(__file__, arguments)
    if not theme:
        return
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    defaults = ["--size", "1280x800", "--seed", "3", "--max-new-tokens", "80", "--exit-after-run"]
    drive.in_window([*defaults, *arguments], lambda program: Photographer(program, theme).take_all())


if __name__ == "__main__":
    main(sys.argv[1:])
