"""Puts the program together: environment, QApplication with a qasync loop, context, window."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.start.arguments import Arguments, parse
from app.start.display import why_no_window
from pass_core.settings import SamplingSettings, SettingsError, StopConditions, Strategy, Verification

if TYPE_CHECKING:
    from PySide6.QtGui import QIcon
    from PySide6.QtWidgets import QApplication

    from app.state.loader import ModelChoice
    from app.state.setup import GenerationSetup

log = logging.getLogger(__name__)

LAST_CALL_SECONDS = 0.5


# How long the engine's thread waits at most for Python while the window uses it; a step of a small model takes 4 ms,
# and the default of 5 ms would double it.
SWITCH_SECONDS = 0.0005


def main(argv: Sequence[str] | None = None) -> int:
    """Run the window; returns the exit code."""
    arguments = parse(argv)
    if arguments.install_desktop or arguments.remove_desktop:
        return _desktop(remove=arguments.remove_desktop)
    if arguments.screenshot is not None:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    if arguments.scale != 1.0:
        os.environ["QT_SCALE_FACTOR"] = str(arguments.scale)
    if problem := why_no_window():
        print(problem, file=sys.stderr)
        return 1
    with contextlib.suppress(RuntimeError, ValueError):  # stderr may be closed in a windowed start
        faulthandler.enable()
    return _run(arguments)


def _desktop(*, remove: bool) -> int:
    from app.start import desktop_entry

    try:
        paths = desktop_entry.remove() if remove else desktop_entry.install()
    except desktop_entry.NoDesktop as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join([f"{'Removed' if remove else 'Written'}: {path}" for path in paths] or ["Nothing was there."]))
    return 0


def _run(arguments: Arguments) -> int:
    from PySide6.QtGui import QGuiApplication
    from PySide6.QtWidgets import QApplication

    from app.start.first_window import FirstWindow, raise_first, server_name

    from qasync import QEventLoop  # isort: skip  (PySide6 must come first: qasync takes the binding that is there)

    QGuiApplication.setApplicationName("pass-playground")
    QGuiApplication.setApplicationDisplayName("PASS Playground")
    QGuiApplication.setDesktopFileName("pass-playground")
    app = QApplication(sys.argv[:1])
    app.setQuitOnLastWindowClosed(False)
    alone = arguments.unattended or arguments.new_window
    if not alone and raise_first(server_name()):
        print("PASS Playground is open already; its window comes to the front. --new-window opens another.")
        return 0
    sys.setswitchinterval(SWITCH_SECONDS)
    code = [0]
    with QEventLoop(app) as loop:
        asyncio.set_event_loop(loop)
        program = Program(app, arguments, loop, code)
        first = None if alone else FirstWindow(server_name(), app)
        if first is not None:
            first.asked.connect(program.window.come_to_front)
        loop.call_soon(program.start)
        loop.run_forever()
        if first is not None:
            first.close()
        ended = program.end()
        if not ended:
            # A thread inside a library's call cannot be stopped, and Python would wait for it. History and settings
            # are written by now.
            log.warning("the engine's work did not end in time; leaving without it")
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code[0])
    return code[0]


class Program:
    """Owns context and window for the time of one start."""

    def __init__(
        self, app: QApplication, arguments: Arguments, loop: asyncio.AbstractEventLoop, code: list[int]
    ) -> None:
        from app.pages import register_pages
        from app.start.crash import CrashReporter
        from app.start.threads import apply_threads
        from app.state.context import AppContext
        from app.state.diary import Diary
        from app.state.loader import Loader
        from app.state.preferences import Preferences
        from app.theme.apply import ThemeManager, ThemeMode
        from app.widgets.log import LogKeeper
        from app.window import MainWindow

        self._arguments, self._loop, self._code = arguments, loop, code
        self._log = LogKeeper()
        logging.getLogger().addHandler(self._log)
        logging.getLogger("app").setLevel(logging.INFO)
        logging.getLogger("pass_core").setLevel(logging.INFO)
        self._preferences = Preferences(None if arguments.unattended else settings_path())
        apply_threads(self._preferences)
        mode = arguments.theme or self._preferences.get("theme", ThemeMode.SYSTEM.value)
        if mode not in set(ThemeMode):
            mode = ThemeMode.SYSTEM.value
        theme = ThemeManager(app, ThemeMode(mode))
        theme.set_zoom(self._preferences.get("view/zoom", 1.0))
        self.context = AppContext(self._preferences, theme)
        self.loader = Loader(self.context)
        self._diary = Diary(self.context, self.loader)
        self.window = MainWindow(self.context, self.loader, self._log)
        self.generate = self.window.generate
        register_pages(self.window, self.generate, self.context)
        app.setWindowIcon(window_icon())
        self._crashes = CrashReporter(self._show_crash)
        self.window.closed.connect(loop.stop)
        self._driver = None
        if arguments.unattended:
            from app.start.unattended import Driver

            self._driver = Driver(arguments, self.context, self.window)
            self._driver.finished.connect(self._leave)
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            signal.signal(signal.SIGINT, lambda *_: self.window.close())

    def start(self) -> None:
        """Restore, show, load."""
        from app.state.remembered import load_choice, load_lookahead_choice, load_setup, save_lookahead
        from app.tour.entries import tour_once

        window, arguments = self.window, self._arguments
        window.restore(self._preferences, arguments.size)
        try:
            setup = with_arguments(load_setup(self.context, self.context.setup.value), arguments)
        except SettingsError as error:
            print(f"{str(error)[:1].upper()}{str(error)[1:]}.", file=sys.stderr)
            self._leave(1)
            return
        self.context.setup.set(setup)
        if arguments.ghosts:
            self.generate.ghosts_action.setChecked(True)
        window.show()
        window.show_page(arguments.page)
        if arguments.page == "generate":
            tour_once(window, self.context)
        choice = load_choice(self.context)
        if arguments.model is not None or arguments.unattended:
            source = arguments.model
            choice = replace(choice, source=str(Path(source).resolve()) if source and Path(source).exists() else source)
        if (arguments.device, arguments.dtype, arguments.quantize) != ("auto", "auto", "none"):
            choice = replace(choice, device=arguments.device, dtype=arguments.dtype, quantize=arguments.quantize)
        self.loader.choice_changed.connect(self._remember_choice)
        self.loader.lookahead_chosen.connect(lambda path: save_lookahead(self.context, path))
        lookahead = arguments.embeddings
        self.loader.load(choice, load_lookahead_choice(self.context, choice) if lookahead is None else lookahead)
        if arguments.run and not arguments.unattended:
            self.generate.run()

    def end(self) -> bool:
        """After the window closed: remember, and leave no thread behind.

        Returns:
            Whether the engine thread has ended.
        """
        from app.engine import tasks
        from app.state.remembered import save_setup

        tasks.cancel_all()
        self._loop.run_until_complete(asyncio.sleep(0))
        if not self._arguments.unattended:
            save_setup(self.context)
            self.window.remember(self._preferences)
            self._preferences.save()
        logging.getLogger().removeHandler(self._log)
        self.window.deleteLater()
        return self.context.shut_down(LAST_CALL_SECONDS)

    def _remember_choice(self, choice: ModelChoice) -> None:
        from app.state.remembered import save_choice

        save_choice(self.context, choice, self.loader.recent)

    def _show_crash(self, text: str) -> None:
        from app.start.crash import crash_box

        if self._arguments.unattended:
            print(text, file=sys.stderr)
            self._leave(1)
        else:
            crash_box(self.window, text).open()

    def _leave(self, code: int) -> None:
        self._code[0] = code
        self.window.close()


def settings_path() -> Path:
    """Where choices are remembered. The folder may be missing: `Preferences` makes it at the first write."""
    from app.state.folders import Place, default_folder

    return default_folder(Place.SETTINGS) / "settings.ini"


def window_icon() -> QIcon:
    """The program's icon."""
    from importlib import resources

    from PySide6.QtGui import QIcon, QPixmap

    pixmap = QPixmap()
    pixmap.loadFromData((resources.files("resources") / "icons" / "pass-playground.png").read_bytes())
    return QIcon(pixmap)


def with_arguments(setup: GenerationSetup, a: Arguments) -> GenerationSetup:
    """The remembered choices, overridden by the command line.

    Raises:
        SettingsError: a value is out of range.
    """
    if a.unattended:
        setup = replace(setup, seed=0)
    settings, stop = setup.settings, setup.stop
    sampling = SamplingSettings(
        temperature=settings.sampling.temperature if a.temperature is None else a.temperature,
        top_k=settings.sampling.top_k if a.top_k is None else a.top_k,
        top_p=settings.sampling.top_p if a.top_p is None else a.top_p,
        min_p=settings.sampling.min_p if a.min_p is None else a.min_p,
    )
    settings = replace(
        settings,
        sampling=sampling,
        strategy=settings.strategy if a.strategy is None else Strategy(a.strategy),
        verification=settings.verification if a.verification is None else Verification(a.verification),
        k=settings.k if a.k is None else a.k,
        auto=settings.auto if a.auto is None else a.auto,
        prompt_lookup=settings.prompt_lookup or a.lookup,
    )
    if a.max_new_tokens is not None:
        stop = StopConditions(a.max_new_tokens, stop.stop_strings, stop.ignore_eos)
    return replace(
        setup,
        prompt_text=setup.prompt_text if a.prompt is None else a.prompt,
        chat=a.chat or (setup.chat and a.prompt is None),
        seed=setup.seed if a.seed is None else a.seed,
        settings=settings,
        stop=stop,
    )
