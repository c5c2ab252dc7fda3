"""Small windows: nothing that appears pushes the text about, and the card tells what computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from app.pages import register_pages
from app.state.context import AppContext, ErrorReport
from app.state.loader import Loader
from app.widgets.log import LogKeeper
from app.widgets.text_format import bytes_text
from app.window import MainWindow
from pass_core.decoding.events import DraftStatus, Provenance
from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.native.build import reason_missing
from tests.app.window.events import draft, step, token


@pytest.fixture
def window(ready: AppContext, loader: Loader, qtbot: QtBot) -> Iterator[MainWindow]:
    window = MainWindow(ready, loader, LogKeeper())
    register_pages(window, window.generate, ready)
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    window.resize(1000, 700)
    window.show()
    QApplication.processEvents()
    yield window
    window.closed.emit()


def top(window: MainWindow, widget: QWidget) -> int:
    return widget.mapTo(window, QPoint(0, 0)).y()


def test_a_banner_moves_nothing(window: MainWindow) -> None:
    text = window.generate.text
    before = (top(window, text), text.size())
    window.banner.show_error(
        ErrorReport("The model is busy with a benchmark. Wait for it, or stop it first. " * 3, "why")
    )
    QApplication.processEvents()
    assert window.banner.isVisible()
    assert window.banner.sentence.height() >= window.banner.sentence.heightForWidth(window.banner.sentence.width())
    assert (top(window, text), text.size()) == before
    high = window.banner.height()
    window.banner._more.setChecked(True)
    assert window.banner.height() > high
    window.resize(900, 700)
    QApplication.processEvents()
    assert window.banner.geometry().right() <= window.banner.parentWidget().width()
    window.banner.hide()


def test_growing_counts_push_nothing(window: MainWindow) -> None:
    page = window.generate
    before = (top(window, page.text), page.text.height())
    rejected = [draft(" no", DraftStatus.REJECTED, index=i) for i in range(3)]
    for kind in Provenance:
        for n in range(0, 3000, 500):
            page.legend.add_steps([step(n, [token(n + i, " a", kind) for i in range(500)], rejected)])
    page.reason.set_full_text("auto: a tree of 12 drafts and 8 look-ahead rows, 2.3 tokens expected in 24 ms " * 2)
    page.proof.show()
    QApplication.processEvents()
    assert (top(window, page.text), page.text.height()) == before
    assert page.reason.toolTip() == page.reason.full_text()  # what does not fit is told by the mouse
    compare = window.page("compare")
    window.show_page("compare")
    QApplication.processEvents()
    pane = compare.panes[0]  # type: ignore[attr-defined]
    before = (top(window, pane.text), pane.text.height())
    for kind in Provenance:
        pane.legend.add_steps([step(0, [token(i, " a", kind) for i in range(2000)], rejected)])
        compare._align_texts()  # type: ignore[attr-defined]
        QApplication.processEvents()
        assert (top(window, pane.text), pane.text.height()) == before


@pytest.mark.skipif(bool(reason_missing()), reason="without the compiled library PyTorch computes")
def test_the_card_tells_what_computes(window: MainWindow, ready: AppContext, tiny_model: LanguageModel) -> None:
    engine = Engine(tiny_model)
    assert engine.forward_weights is None
    engine.runtime  # noqa: B018 (packed now)
    told = engine.forward_weights
    assert told is not None
    assert told.nbytes < tiny_model.weight_bytes() or told.name == "float32"
    ready.set_engine(engine)
    facts = window.generate.model_card.facts.full_text()
    assert f"{told.name}, {bytes_text(told.nbytes)}" in facts
