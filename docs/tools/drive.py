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


def theme_of(script: str, arguments: list[str]) -> str:
    """The theme that was asked for with `--theme`, else "" after `script` has run once for each."""
    if "--theme" in arguments:
        return arguments[arguments.index("--theme") + 1]
    for theme in THEMES:
        subprocess.run([sys.executable, script, "--theme", theme, *arguments], check=True)
    return ""
