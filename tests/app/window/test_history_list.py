"""The History page's list: sorted by each head, columns chosen, tags, several runs exported at once."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog, QMenu
from pytestqt.qtbot import QtBot

from app.export.tables import RUN_COLUMNS
from app.history.model import HEADS, MODEL, PIN, SPEED, TAGS, TITLE, WHEN
from app.history.page import HistoryPage
from app.history.service import HistoryService
from app.history.store import HistoryStore
from app.state.context import AppContext
from pass_core.records.collection import load_records
from pass_core.records.runs import RunRecord
from tests.app.history.test_store import numbered

RUNS = 4


def slower(number: int) -> RunRecord:
    """Number 0 is the oldest; 2 is the fastest, then 0, 3, 1."""
    record = numbered(number, title=f"run {number}")
    pace = (2, 9, 1, 5)[number]
    return replace(record, steps=tuple(replace(s, seconds=0.01 * pace) for s in record.steps))


@pytest.fixture
def page(ready: AppContext, tmp_path: Path, qtbot: QtBot) -> Iterator[HistoryPage]:
    path = tmp_path / "history.sqlite3"
    store = HistoryStore(path)
    for number in range(RUNS):
        store.add(slower(number))
    store.close()
    service = HistoryService(ready, path)
    page = HistoryPage(ready, service)
    qtbot.addWidget(page)
    page.resize(1280, 800)
    page.show()
    page.page_shown()
    qtbot.waitUntil(lambda: len(page.model.entries) == RUNS)
    yield page
    service.close()


def order(page: HistoryPage) -> list[int]:
    return [int(e.id, 16) for e in page.model.entries]


def click_head(page: HistoryPage, column: int) -> None:
    head = page.table.horizontalHeader()
    place = QPoint(head.sectionViewportPosition(column) + head.sectionSize(column) // 2, head.height() // 2)
    QTest.mouseClick(head.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)


def shown_heads(page: HistoryPage) -> list[str]:
    head = page.table.horizontalHeader()
    columns = [head.logicalIndex(i) for i in range(head.count())]
    return [HEADS[c] for c in columns if not page.table.isColumnHidden(c)]


def entry(menu: QMenu, text: str, after: str) -> object:
    """An entry below a heading."""
    menu.aboutToShow.emit()
    texts = [a.text() for a in menu.actions()]
    return menu.actions()[texts.index(text, texts.index(after.upper()))]


def test_a_head_sorts_and_is_remembered(page: HistoryPage, ready: AppContext, qtbot: QtBot) -> None:
    assert order(page) == [3, 2, 1, 0]
    click_head(page, SPEED)
    qtbot.waitUntil(lambda: order(page) == [2, 0, 3, 1])
    click_head(page, SPEED)
    qtbot.waitUntil(lambda: order(page) == [1, 3, 0, 2])
    page.select([slower(3).id])
    click_head(page, WHEN)
    qtbot.waitUntil(lambda: order(page) == [3, 2, 1, 0])
    click_head(page, TITLE)
    qtbot.waitUntil(lambda: order(page) == [0, 1, 2, 3])
    assert [e.title for e in page.selected()] == ["run 3"], "the selection goes along"
    entry(page.view_menu, "Tokens/s", "Sort by").trigger()  # type: ignore[attr-defined]
    qtbot.waitUntil(lambda: order(page) == [2, 0, 3, 1])
    again = HistoryPage(ready, page._history)
    qtbot.addWidget(again)
    assert again.table.sort == page.table.sort
    entry(page.view_menu, "Downwards", "Sort by").trigger()  # type: ignore[attr-defined]
    qtbot.waitUntil(lambda: order(page) == [1, 3, 0, 2])
    click_head(page, PIN)
    qtbot.waitUntil(lambda: order(page) == [3, 2, 1, 0])


def test_columns_are_chosen_and_remembered(page: HistoryPage, ready: AppContext, qtbot: QtBot) -> None:
    assert shown_heads(page) == [h for h in HEADS if h != "Tags"]
    entry(page.view_menu, "Size", "Columns").trigger()  # type: ignore[attr-defined]
    entry(page.view_menu, "Per call", "Columns").trigger()  # type: ignore[attr-defined]
    expected = [h for h in HEADS if h not in ("Tags", "Size", "Per call")]
    assert shown_heads(page) == expected
    again = HistoryPage(ready, page._history)
    qtbot.addWidget(again)
    again.resize(1280, 800)
    again.show()
    assert shown_heads(again) == expected
    again.hide()
    page.resize(900, 700)
    qtbot.waitUntil(lambda: page.table.isColumnHidden(MODEL))
    page.resize(1280, 800)
    qtbot.waitUntil(lambda: shown_heads(page) == expected)
    entry(page.view_menu, "Size", "Columns").trigger()  # type: ignore[attr-defined]
    assert "Size" in shown_heads(page)


def test_tags_are_given_filtered_and_survive_an_undo(page: HistoryPage, qtbot: QtBot) -> None:
    assert not page.tag_filter.isVisible()
    page.select([slower(0).id, slower(2).id])
    page.tag_menu.add("good")
    qtbot.waitUntil(lambda: page.tags == {"good": 2} and shown_heads(page)[:3] == ["", "Run", "Tags"])
    assert len(page.selected()) == 2
    page.select([slower(1).id, slower(2).id])
    page.tag_menu.fill()
    assert [a.text() for a in page.tag_menu.actions()] == ["good  (1 of 2)", "", "New tag…"]
    page.tag_filter.setCurrentIndex(page.tag_filter.findData("good"))
    page.tag_filter.activated.emit(page.tag_filter.currentIndex())
    qtbot.waitUntil(lambda: order(page) == [2, 0])
    assert "found" in page.size_text.text()
    page.delete([slower(0).id, slower(2).id])
    # A tag that is gone filters nothing.
    qtbot.waitUntil(lambda: page.undo_button.isVisible() and order(page) == [3, 1])
    page.undo_button.click()
    qtbot.waitUntil(lambda: page.tags == {"good": 2} and order(page) == [3, 2, 1, 0])
    page.select([slower(2).id])
    page.tag_menu.fill()
    tick = page.tag_menu.actions()[0]
    assert tick.isChecked()
    tick.trigger()
    qtbot.waitUntil(lambda: page.tags == {"good": 1})
    assert page.model.data(page.model.index(3, TAGS)) == "good"


def chosen_file(page: HistoryPage, title: str, path: Path, qtbot: QtBot) -> None:
    """Press an entry of the Export menu and choose a file, as a person would."""
    next(a for a in page.export_button.menu().actions() if a.text().startswith(title)).trigger()
    qtbot.waitUntil(lambda: page.findChild(QFileDialog) is not None)
    dialog = page.findChild(QFileDialog)
    assert dialog is not None
    dialog.fileSelected.emit(str(path))
    dialog.reject()
    qtbot.waitUntil(lambda: page.findChild(QFileDialog) is None)


def test_several_runs_go_into_one_file_and_come_back(page: HistoryPage, tmp_path: Path, qtbot: QtBot) -> None:
    page.select([slower(0).id, slower(2).id])
    assert page.export_button.isEnabled()
    chosen_file(page, "JSON", tmp_path / "some.json", qtbot)
    assert load_records(tmp_path / "some.json") == [slower(2), slower(0)]
    chosen_file(page, "CSV", tmp_path / "some.csv", qtbot)
    with (tmp_path / "some.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == RUN_COLUMNS
    assert [r["title"] for r in rows] == ["run 2", "run 0"]
    summary = slower(2).summary
    assert float(rows[0]["tokens_per_second"]) == summary.tokens_per_second
    assert int(rows[0]["new_tokens"]) == summary.new_tokens
    page.select([slower(1).id])
    assert any(a.text().startswith("Web page") for a in page.export_button.menu().actions())
    page.delete([slower(0).id, slower(2).id])
    qtbot.waitUntil(lambda: len(page.model.entries) == RUNS - 2)
    page.import_file(tmp_path / "some.json")
    qtbot.waitUntil(lambda: len(page.model.entries) == RUNS)
    assert {e.title for e in page.selected()} == {"run 0", "run 2"}, "what was imported is selected"
