"""Takes the pictures of the Train page by training for a moment in the real window.

    python docs/tools/screenshots/train.py [--theme light|dark] [--data FOLDER] [--texts 96] [--minutes 5] …

Without --theme both are taken, one process each. The pictures go beside this file.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import drive
from drive import until

from app.application import Program
from app.training.controller import TrainingState
from app.training.page import TrainPage


async def take(program: Program, theme: str, folder: Path, data: str, minutes: float, texts: int) -> None:
    """Empty, while it trains, and when it is done."""
    await until(lambda: program.context.lookahead is not None)
    page = program.window.page("train")
    assert isinstance(page, TrainPage)
    form, controller = page.form, page.controller
    form.minutes.setValue(minutes)
    form.texts.set_value(texts)
    form.set_data(data)
    form.set_out(folder / "my-embeddings.safetensors")
    program.window.show_page("train")
    await until(lambda: controller.measuring)
    await until(lambda: not controller.measuring)
    await drive.shoot(program, "train-before", theme)
    page.start()
    await until(lambda: len(page.plots.evaluated) > 5 or controller.state is TrainingState.IDLE)
    await drive.shoot(program, "train-during", theme)
    await until(lambda: controller.state is TrainingState.IDLE)
    await drive.shoot(program, "train-after", theme)


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
    theme = drive.theme_of(__file__, arguments)
    if not theme:
        return
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    data, minutes = option(arguments, "--data", ""), float(option(arguments, "--minutes", "5"))
    texts = int(option(arguments, "--texts", "96"))
    with tempfile.TemporaryDirectory() as folder:
        drive.in_window(
            ["--size", "1280x800", "--exit-after-run", *arguments],
            lambda program: take(program, theme, Path(folder), data, minutes, texts),
        )


if __name__ == "__main__":
    main(sys.argv[1:])
