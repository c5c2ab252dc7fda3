"""Fixtures of the window: a context of its own per test, an asyncio loop on Qt's, and no timer or thread left over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from PySide6.QtCore import QEvent, QThread, QTimer
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.state.context import AppContext
from app.state.loader import Loader
from app.state.preferences import Preferences
from app.theme.apply import ThemeManager, ThemeMode
from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from tests import tiny


@pytest.fixture(scope="session")
def theme(qapp: QApplication) -> ThemeManager:
    """The theme of the whole session: replacing a style sheet for every test would cost more than the tests."""
    return ThemeManager(qapp, ThemeMode.LIGHT)


@pytest.fixture(autouse=True)
def nothing_left_running(qapp: QApplication) -> Iterator[None]:
    """Fails a test that leaves a QThread behind: the engine's, which all work with a model runs in."""
    threads: list[QThread] = []
    start = QThread.start

    def record(thread: QThread, *args: object) -> None:
        threads.append(thread)
        start(thread, *args)

    with patch.object(QThread, "start", record):
        yield
    alive = [t.objectName() for t in threads if _running(t)]
    assert not alive, f"QThreads left running: {alive}"


@pytest.fixture(autouse=True)
def no_timer_left(qapp: QApplication) -> Iterator[None]:
    """Fails a test whose timers outlive the fixtures that own them."""
    timers: list[QTimer] = []
    start = QTimer.start

    def record(timer: QTimer, *args: int) -> None:
        timers.append(timer)
        start(timer, *args)

    with patch.object(QTimer, "start", record):
        yield
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    QApplication.processEvents()
    ticking = [t for t in timers if _ticking(t)]
    assert not ticking, f"{len(ticking)} timers left running"


@pytest.fixture
def context(theme: ThemeManager, qtbot: QtBot, no_timer_left: None) -> Iterator[AppContext]:
    """A context without a model that remembers nothing."""
    context = AppContext(Preferences(None), theme)
    yield context
    assert context.shut_down(30)
    context.deleteLater()


@pytest.fixture
def tiny_model() -> LanguageModel:
    """A tiny Llama of the test's own: the window may free it."""
    return tiny.tiny_llama(tokenizer=True)


@pytest.fixture
def ready(context: AppContext, tiny_model: LanguageModel) -> AppContext:
    """A context with the tiny model."""
    context.set_engine(Engine(tiny_model))
    return context


@pytest.fixture
def loop(qapp: QApplication) -> Iterator[asyncio.AbstractEventLoop]:
    """Lets coroutines run whenever Qt's own loop does (`qtbot.waitSignal`)."""
    from qasync import QEventLoop

    loop = QEventLoop(qapp)
    asyncio.set_event_loop(loop)
    asyncio.events._set_running_loop(loop)
    yield loop
    asyncio.events._set_running_loop(None)
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def loader(context: AppContext, loop: asyncio.AbstractEventLoop) -> Loader:
    return Loader(context)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as a user would drop it: config, weights, tokenizer."""
    model = tiny.tiny_llama(tokenizer=True)
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def _running(thread: QThread) -> bool:
    try:
        return thread.isRunning()
    except RuntimeError:  # its C++ half is gone, and so is the thread
        return False


def _ticking(timer: QTimer) -> bool:
    try:
        return timer.isActive()
    except RuntimeError:
        return False
