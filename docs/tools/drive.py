"""Drives the program's own window from a script: opens it, waits for conditions, takes pictures in both themes.

Scripts in the folders beside this file import it as `drive`, with this folder on `sys.path`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from PySide6.QtWidgets import QApplication
from qasync import QEventLoop

from app.application import Program
from app.start.arguments import parse
from app.theme.apply import ThemeMode

PICTURES = Path(__file__).parents[1] / "screenshots"
THEMES = ("light", "dark")
T = TypeVar("T")


async def until(condition: Callable[[], object], seconds: float = 600.0) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not come true in time.
    """
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def in_window(words: list[str], work: Callable[[Program], Coroutine[Any, Any, T]]) -> T:
    """Open the window with arguments of main.py, do the work, close it; what the work returned or raised.

    Args:
        work: called before the window starts; its coroutine runs beside the window.
    """
    app = QApplication(sys.argv[:1])
    app.setQuitOnLastWindowClosed(False)
    with QEventLoop(app) as loop:
        asyncio.set_event_loop(loop)
        program = Program(app, parse(words), loop, [0])
        if program._driver is not None:  # this script drives instead
            program._driver.blockSignals(True)
            program.context.lookahead_changed.disconnect(program._driver._ready)
            program.context.session.run_finished.disconnect(program._driver._finished)
        coroutine = work(program)

        async def to_the_end() -> T:
            try:
                return await coroutine
            finally:
                program._leave(0)

        loop.call_soon(program.start)
        task = loop.create_task(to_the_end())
        loop.run_forever()
        program.end()
        return task.result()


async def shoot(program: Program, name: str, theme: str) -> None:
    """Let everything be painted, then take the picture NAME-THEME.png."""
    await asyncio.sleep(0.5)
    program.window.grab().save(str(PICTURES / f"{name}-{theme}.png"))
    print(f"{name}-{theme}.png", flush=True)


class Photographer:
    """Walks through the program and takes what it meets in both themes."""

    patience_seconds = 900.0

    def __init__(self, program: Program) -> None:
        self.program, self.window, self.context = program, program.window, program.context

    async def shoot(self, name: str) -> None:
        """Take a picture in each theme."""
        for mode in (ThemeMode.LIGHT, ThemeMode.DARK):
            self.context.theme.set_mode(mode)
            await shoot(self.program, name, mode.value)

    async def idle(self) -> None:
        """Wait until nothing runs."""
        await until(lambda: not self.context.busy_with, self.patience_seconds)
        await asyncio.sleep(0.2)


def theme_of(script: str, arguments: list[str]) -> str:
    """The theme that was asked for with `--theme`, else "" after `script` has run once for each."""
    if "--theme" in arguments:
        return arguments[arguments.index("--theme") + 1]
    for theme in THEMES:
        subprocess.run([sys.executable, script, "--theme", theme, *arguments], check=True)
    return ""
