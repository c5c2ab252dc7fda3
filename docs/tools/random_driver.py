"""Drives the real window at random for some minutes and says what it was like.

    python docs/tools/random_driver.py [--minutes 3] [--seed 0] [--model DIR] [--output docs/random-driving.txt]

Clicks, keys, sliders, wheel, pages, sizes and themes come from a seeded generator. The window is the program's own,
without its history and settings on disk. Menus and dialogs that open are closed again by a timer, as Escape would.
Fails (exit code 1) on any Qt warning, any error in the log, and any exception.

The longest unresponsive stretch is the longest time between two ticks of a 10 ms timer in the GUI thread. Beside each
stands how long that thread itself computed in it (the rest it waited for a processor or for Python's lock), and where
it was when another thread looked.
"""

# ruff: noqa: E402 (Qt must be told to go offscreen before it is imported)

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import drive
import psutil
from PySide6.QtCore import QPoint, QPointF, Qt, QTimer, QtMsgType, qInstallMessageHandler
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QWidget,
)

from app.application import Program
from app.theme.apply import ThemeMode
from pass_core.records.environment import processor_name

TICK_MS = 10
PAUSE_MS = 25
LATE_MS = 200
LOOK_SECONDS = 0.02
SHOWN = 8
KEYS = (
    (Qt.Key.Key_Tab, Qt.KeyboardModifier.NoModifier),
    (Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier),
    (Qt.Key.Key_Space, Qt.KeyboardModifier.NoModifier),
    (Qt.Key.Key_Left, Qt.KeyboardModifier.NoModifier),
    (Qt.Key.Key_End, Qt.KeyboardModifier.NoModifier),
    (Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier),
    (Qt.Key.Key_G, Qt.KeyboardModifier.ControlModifier),
    (Qt.Key.Key_P, Qt.KeyboardModifier.ControlModifier),
    (Qt.Key.Key_I, Qt.KeyboardModifier.ControlModifier),
    (Qt.Key.Key_Plus, Qt.KeyboardModifier.ControlModifier),
    (Qt.Key.Key_0, Qt.KeyboardModifier.ControlModifier),
    (Qt.Key.Key_A, Qt.KeyboardModifier.NoModifier),
)
SIZES = ((1280, 800), (1000, 700), (920, 560), (1600, 1000))
LEFT_ALONE = ("Quit", "Unload", "Delete", "Start training", "Write", "Download")
"""Buttons that end the drive, delete files, or hold the model for longer than the drive; all others are pressed."""


class Watch(logging.Handler):
    """Counts ticks that come late, and keeps every warning."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.problems: list[str] = []
        self.refusals = 0
        self.without_font = 0
        self.ticks = 0
        self.gaps: list[tuple[float, float, str]] = []
        self.doing = "starting"
        self._last, self._own = time.perf_counter(), time.thread_time()
        self._gui = threading.get_ident()
        self._where: Counter[str] = Counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        qInstallMessageHandler(self._qt)

    def start(self) -> None:
        """Count from now on."""
        self._last, self._own = time.perf_counter(), time.thread_time()
        self._timer.start(TICK_MS)
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def _look(self) -> None:
        """Where the GUI thread is while a tick is late; the time of this thread is not its."""
        while True:
            time.sleep(LOOK_SECONDS)
            if time.perf_counter() - self._last < LATE_MS / 2000:
                continue
            frame = sys._current_frames().get(self._gui)
            names: list[str] = []
            while frame is not None and len(names) < 3:
                code = frame.f_code
                if f"{ROOT}/app" in code.co_filename or f"{ROOT}/pass_core" in code.co_filename:
                    names.append(f"{Path(code.co_filename).stem}.{code.co_name}")
                frame = frame.f_back
            self._where[" < ".join(names) or "Qt"] += 1

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "app.diary":  # a plain sentence in the banner ("the model is busy"), as it should be
            self.refusals += 1
            return
        error = record.exc_info[1] if record.exc_info else None
        where = traceback.format_exception(error)[-4:] if error is not None else []
        self.problems.append(f"log: {record.name}: {record.getMessage()}\n{''.join(where)}")

    def _qt(self, kind: QtMsgType, context: object, message: str) -> None:
        of_offscreen = message.startswith("This plugin")  # it says itself what it lacks
        if message.startswith("OpenType support missing"):  # a text in a script that no font of this machine has
            self.without_font += 1
        elif kind is not QtMsgType.QtDebugMsg and not of_offscreen:
            self.problems.append(f"Qt: {message}")

    def _tick(self) -> None:
        now, own = time.perf_counter(), time.thread_time()
        self.ticks += 1
        gap = 1000 * (now - self._last)
        if gap > LATE_MS:
            where = ", ".join(f"{name} ({count})" for name, count in self._where.most_common(3))
            self.gaps.append((gap, 1000 * (own - self._own), f"{self.doing}: {where or 'Qt'}"))
        self._where.clear()
        self._last, self._own = now, own


async def outside(act: Callable[[], None]) -> None:
    """Do it in a Qt event and in no task: QTest handles events, and a task cannot go on inside another one."""
    over = asyncio.get_running_loop().create_future()

    def do() -> None:
        try:
            act()
        except Exception as error:
            over.set_exception(error)
        else:
            over.set_result(None)

    QTimer.singleShot(0, do)
    await over


class Driver:
    """Does one random thing after another."""

    left_alone: tuple[str, ...] = LEFT_ALONE

    def __init__(self, program: Program, seed: int, watch: Watch) -> None:
        self.window, self.context = program.window, program.context
        self.random = random.Random(seed)
        self.watch = watch
        self.done: Counter[str] = Counter()
        self.memory: list[tuple[float, float]] = []
        self._started = time.monotonic()

    async def drive(self, seconds: float) -> None:
        """Until the time is over."""
        process = psutil.Process()
        self._started = time.monotonic()
        acts = (self.click, self.click, self.click, self.key, self.slide, self.spin, self.wheel, self.page, self.choose)
        while (now := time.monotonic() - self._started) < seconds:
            act = self.random.choice(self.seldom() if self.random.random() < 0.06 else acts)
            self.watch.doing = act.__name__
            await outside(act)
            self.done[act.__name__] += 1
            if not self.memory or now - self.memory[-1][0] >= 10:
                self.memory.append((now, process.memory_info().rss / 1e6))
                self.sampled(process)
            await asyncio.sleep(PAUSE_MS / 1000)
            await outside(self.close_what_opened)

    def seldom(self) -> tuple[Callable[[], None], ...]:
        """What is done now and then."""
        return (self.resize, self.theme, self.run)

    def sampled(self, process: psutil.Process) -> None:
        """The memory was looked at; a driver that keeps more looks now."""

    def close_what_opened(self) -> None:
        """Menus and dialogs: one that stays open would take all the clicks."""
        popup = QApplication.activePopupWidget()
        if popup is not None:
            popup.close()
        for widget in QApplication.topLevelWidgets():
            if isinstance(widget, QDialog) and widget.isVisible():
                widget.reject()

    def widgets(self, kind: type[QWidget]) -> list[QWidget]:
        """Those that a person could reach now."""
        found = [w for w in self.window.findChildren(kind) if w.isVisible() and w.isEnabled()]
        return [w for w in found if w.window() is self.window and not w.visibleRegion().isEmpty()]

    def pick(self, kind: type[QWidget]) -> QWidget | None:
        """One of them."""
        found = self.widgets(kind)
        return self.random.choice(found) if found else None

    def click(self) -> None:
        """A button, or anywhere."""
        if self.random.random() < 0.3:
            target = self.window.childAt(self._somewhere(self.window)) or self.window
            QTest.mouseMove(target, self._somewhere(target))
        else:
            target = self.pick(QAbstractButton)
        if target is None:
            return
        name = target.text() if isinstance(target, QAbstractButton) else ""
        if any(word in f"{name} {target.toolTip()}" for word in self.left_alone):
            return
        self.watch.doing = f"click {type(target).__name__} {name}".strip()
        # A menu button would run an event loop of its own inside the click: the press alone opens, the timer closes.
        QTimer.singleShot(PAUSE_MS, self.close_what_opened)
        QTest.mouseClick(target, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, self._somewhere(target))

    def key(self) -> None:
        """A key to whatever has the focus."""
        key, modifier = self.random.choice(KEYS)
        self.watch.doing = f"key {key.name}"
        QTest.keyClick(QApplication.focusWidget() or self.window, key, modifier)

    def slide(self) -> None:
        """A slider to anywhere."""
        slider = self.pick(QAbstractSlider)
        if isinstance(slider, QAbstractSlider):
            slider.setValue(self.random.randint(slider.minimum(), slider.maximum()))

    def spin(self) -> None:
        """A field some steps on; the size limit of the history and the length of a text stay small."""
        field = self.pick(QAbstractSpinBox)
        if isinstance(field, QAbstractSpinBox):
            field.stepBy(self.random.randint(-3, 3))

    def wheel(self) -> None:
        """The wheel over anything."""
        target = self.window.childAt(self._somewhere(self.window))
        if target is None:
            return
        place = QPointF(self._somewhere(target))
        turn = QPoint(0, self.random.choice((-240, -120, 120, 240)))
        none = Qt.MouseButton.NoButton
        plain, phase = Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase
        where = QPointF(target.mapToGlobal(place.toPoint()))
        QApplication.sendEvent(target, QWheelEvent(place, where, QPoint(), turn, none, plain, phase, False))

    def page(self) -> None:
        """Another page."""
        self.window.show_page(self.random.choice(list(self.window._pages)))

    def choose(self) -> None:
        """Another entry of a box."""
        box = self.pick(QComboBox)
        if isinstance(box, QComboBox) and box.count():
            number = self.random.randrange(box.count())
            if "file" not in box.itemText(number):
                box.setCurrentIndex(number)
                box.activated.emit(number)

    def resize(self) -> None:
        """Another size of the window."""
        self.window.resize(*self.random.choice(SIZES))

    def theme(self) -> None:
        """The other theme."""
        self.window.set_theme(self.random.choice((ThemeMode.LIGHT, ThemeMode.DARK)))

    def run(self) -> None:
        """A text, and now and then a comparison."""
        if self.random.random() < 0.7:
            self.window.generate.run()
        else:
            self.window.page("compare").compare()  # type: ignore[attr-defined]

    def _somewhere(self, widget: QWidget) -> QPoint:
        return QPoint(self.random.randrange(max(1, widget.width())), self.random.randrange(max(1, widget.height())))


def report(driver: Driver, watch: Watch, minutes: float, seed: int, model: str) -> str:
    """What it was like, as text."""
    gaps = sorted(watch.gaps, reverse=True)
    busy = sorted((g for g in gaps if g[1] > LATE_MS), key=lambda g: -g[1])
    memory = [used for _, used in driver.memory]
    settled = memory[len(memory) // 3 :] or [0.0]
    load = f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}"
    acts = ", ".join(f"{name} {count}" for name, count in driver.done.most_common())
    lines = [
        f"random driving: {minutes:g} minutes, seed {seed}, model {model}",
        f"{platform.platform()}, {processor_name()}, {load}",
        f"done: {sum(driver.done.values())} ({acts})",
        f"warnings, errors and exceptions: {len(watch.problems)}",
        *(f"  {text}" for text in watch.problems[:20]),
        f"plain sentences in the banner: {watch.refusals}; Qt's notes on scripts that no font here has: "
        f"{watch.without_font}",
        f"unresponsive stretches above {LATE_MS} ms: {len(gaps)} of {watch.ticks} ticks; the longest:",
        *(f"  {gap:.0f} ms, of which {own:.0f} ms computed ({doing})" for gap, own, doing in gaps[:SHOWN]),
        f"stretches in which the window's thread itself computed above {LATE_MS} ms: {len(busy)}; the longest:",
        *(f"  {own:.0f} ms ({doing})" for _, own, doing in busy[:SHOWN]),
        f"memory: {settled[0]:.0f} MB after a third of the time, {settled[-1]:.0f} MB at the end, at most "
        f"{max(memory, default=0):.0f} MB",
    ]
    return "\n".join(lines)


D = TypeVar("D", bound=Driver)


def in_window(words: list[str], make: Callable[[Program, Watch], D], minutes: float) -> D:
    """Open the program's window with these arguments and drive it once the model is loaded."""

    def work(program: Program) -> Coroutine[Any, Any, D]:
        watch = Watch()
        program._show_crash = lambda text: watch.problems.append(f"exception: {text.strip().splitlines()[-1]}")
        program._crashes._show = program._show_crash
        driver = make(program, watch)

        async def driven() -> D:
            await drive.until(lambda: program.context.lookahead is not None)
            logging.getLogger().addHandler(watch)
            watch.start()
            await driver.drive(60 * minutes)
            return driver

        return driven()

    return drive.in_window(words, work)


def main() -> int:
    """Drive, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a model folder (default: the default model)")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    words = ["--exit-after-run", "--max-new-tokens", "48", *(["--model", given.model] if given.model else [])]
    driver = in_window(words, lambda program, watch: Driver(program, given.seed, watch), given.minutes)
    watch = driver.watch
    text = report(driver, watch, given.minutes, given.seed, given.model or "default")
    print(text)
    if given.output is not None:
        given.output.write_text(f"$ {' '.join(['python', 'docs/tools/random_driver.py', *sys.argv[1:]])}\n{text}\n")
    return 1 if watch.problems else 0


if __name__ == "__main__":
    sys.exit(main())
