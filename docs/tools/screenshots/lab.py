"""Takes the pictures of the Benchmark and Losslessness pages by driving the real window; every figure was measured.

    python docs/tools/screenshots/lab.py [--model …] [other options of main.py]

Measures once (a quick benchmark with two-call PASS, the quick proofs, the proofs with the wrong rule, a few HumanEval
problems: some minutes), then takes every picture in both themes. The pictures go beside this file.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtWidgets import QApplication, QTabWidget
from qasync import QEventLoop

from app.application import Program
from app.benchmark.page import BenchmarkPage
from app.losslessness.page import LosslessnessPage
from app.start.arguments import parse
from app.theme.apply import ThemeMode
from pass_core.evaluation.losslessness.plan import QUICK, Proof

FOLDER = Path(__file__).parents[2] / "screenshots"
PATIENCE_SECONDS = 1800.0


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.1)


class Photographer:
    """Measures, and takes each page in both themes."""

    def __init__(self, program: Program) -> None:
        self.window, self.context = program.window, program.context

    async def shoot(self, name: str) -> None:
        for mode in (ThemeMode.LIGHT, ThemeMode.DARK):
            self.context.theme.set_mode(mode)
            await asyncio.sleep(0.5)
            self.window.grab().save(str(FOLDER / f"{name}-{mode.value}.png"))
            print(f"{name}-{mode.value}.png", flush=True)

    async def idle(self) -> None:
        await until(lambda: not self.context.busy_with)
        await asyncio.sleep(0.2)

    async def walk(self) -> None:
        await until(lambda: self.context.model is not None and self.context.lookahead is not None)
        await self.idle()
        self.window.show_page("losslessness")
        proofs = self.window.findChild(LosslessnessPage)
        self.window.show_page("benchmark")
        page = self.window.findChild(BenchmarkPage)
        assert page is not None
        assert proofs is not None
        form = page.speed.form
        form.two_call.setChecked(True)
        form.ks.setText("1, 2, 3, 5")
        form.minutes.setValue(2)
        page.speed.start()
        await self.idle()
        await self.shoot("benchmark")
        tabs = page.findChild(QTabWidget)
        assert tabs is not None
        tabs.setCurrentWidget(page.humaneval)
        page.humaneval.consent.setChecked(True)
        page.humaneval.problems.setValue(12)
        page.humaneval.start()
        await self.idle()
        await self.shoot("humaneval")
        self.window.show_page("losslessness")
        proofs.start()
        await self.idle()
        await self.shoot("losslessness")
        proofs.wrong_rule.setChecked(True)
        proofs.start(replace(QUICK, proofs=(Proof.DISTRIBUTION,), wrong_rule=True, draws=10))
        await self.idle()
        await self.shoot("losslessness-wrong-rule")


def main(arguments: list[str]) -> None:
    app = QApplication(sys.argv[:1])
    app.setQuitOnLastWindowClosed(False)
    with QEventLoop(app) as loop:
        asyncio.set_event_loop(loop)
        defaults = ["--size", "1280x800", "--exit-after-run"]
        program = Program(app, parse([*defaults, *arguments]), loop, [0])
        if program._driver is not None:  # this script drives instead
            program._driver.blockSignals(True)
            program.context.lookahead_changed.disconnect(program._driver._ready)
            program.context.session.run_finished.disconnect(program._driver._finished)

        async def work() -> None:
            try:
                await Photographer(program).walk()
            finally:
                program._leave(0)

        loop.call_soon(program.start)
        task = loop.create_task(work())
        loop.run_forever()
        program.end()
        task.result()


if __name__ == "__main__":
    main(sys.argv[1:])
