"""Takes the pictures of the Train page by training for a moment in the real window.

    python docs/tools/screenshots/train.py [--theme light|dark] [--data FOLDER] [--texts 96] [--minutes 5] …

Without --theme both are taken, one process each. The pictures go beside this file.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parent))

from PySide6.QtWidgets import QApplication
from qasync import QEventLoop
from session import Photographer, until

from app.application import Program
from app.start.arguments import parse
from app.training.controller import TrainingState
from app.training.page import TrainPage


async def take(photographer: Photographer, folder: Path, data: str, minutes: float, texts: int) -> None:
    """Empty, while it trains, and when it is done."""
    page = photographer.window.page("train")
    assert isinstance(page, TrainPage)
    form, controller = page.form, page.controller
    form.minutes.setValue(minutes)
    form.texts.set_value(texts)
    form.set_data(data)
    form.set_out(folder / "my-embeddings.safetensors")
    photographer.window.show_page("train")
    await until(lambda: controller.measuring)
    await until(lambda: not controller.measuring)
    await photographer.shoot("train-before")
    page.start()
    await until(lambda: len(page.plots.evaluated) > 5 or controller.state is TrainingState.IDLE)
    await photographer.shoot("train-during")
    await until(lambda: controller.state is TrainingState.IDLE)
    await photographer.shoot("train-after")


def option(arguments: list[str], name: str, default: str) -> str:
    """Take `name VALUE` out of the arguments."""
    if name not in arguments:
        return default
    place = arguments.index(name)
    value = arguments[place + 1]
    del arguments[place : place + 2]
    return value


def main(arguments: list[str]) -> None:
    """Both themes in processes of their own, or the one that was asked for."""
    if "--theme" not in arguments:
        for theme in ("light", "dark"):
            subprocess.run([sys.executable, __file__, "--theme", theme, *arguments], check=True)
        return
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    theme = arguments[arguments.index("--theme") + 1]
    data, minutes = option(arguments, "--data", ""), float(option(arguments, "--minutes", "5"))
    texts = int(option(arguments, "--texts", "96"))
    app = QApplication(sys.argv[:1])
    app.setQuitOnLastWindowClosed(False)
    with QEventLoop(app) as loop, tempfile.TemporaryDirectory() as folder:
        asyncio.set_event_loop(loop)
        program = Program(app, parse(["--size", "1280x800", "--exit-after-run", *arguments]), loop, [0])
        if program._driver is not None:  # this script drives instead
            program._driver.blockSignals(True)
            program.context.lookahead_changed.disconnect(program._driver._ready)
            program.context.session.run_finished.disconnect(program._driver._finished)

        async def work() -> None:
            try:
                await until(lambda: program.context.lookahead is not None)
                await take(Photographer(program, theme), Path(folder), data, minutes, texts)
            finally:
                program._leave(0)

        loop.call_soon(program.start)
        task = loop.create_task(work())
        loop.run_forever()
        program.end()
        task.result()


if __name__ == "__main__":
    main(sys.argv[1:])
