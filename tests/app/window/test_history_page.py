"""The history as the window uses it: runs record themselves, and what comes back is what was seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint
from PySide6.QtGui import QGuiApplication, QTextCursor
from pytestqt.qtbot import QtBot

from app.engine.run import Run
from app.generate.page import GeneratePage
from app.generate.text_menu import TextMenu
from app.history.page import HistoryPage
from app.history.service import HistoryService
from app.history.store import HistoryStore
from app.inspector.page import InspectPage
from app.inspector.viewer import PLOTS_TAB, RunViewer
from app.state.context import AppContext
from app.state.loader import Loader
from app.widgets.text_format import settings_text
from pass_core.models.shipped import default_lookahead
from pass_core.records.runs import RunRecord, RunStatus, save_record
from pass_core.settings import DecodingSettings, StopConditions


@pytest.fixture
def history(ready: AppContext, tmp_path: Path) -> Iterator[HistoryService]:
    assert ready.model is not None
    ready.set_lookahead(default_lookahead(ready.model))
    service = HistoryService(ready, tmp_path / "history.sqlite3")
    yield service
    service.close()


@pytest.fixture
def page(ready: AppContext, history: HistoryService, qtbot: QtBot) -> HistoryPage:
    page = HistoryPage(ready, history)
    qtbot.addWidget(page)
    page.resize(1100, 700)
    page.show()
    return page


def ask(history: HistoryService, work: Any, qtbot: QtBot) -> Any:
    answers: list[Any] = []
    history.ask(work, answers.append)
    qtbot.waitUntil(lambda: bool(answers), timeout=30_000)
    return answers[0]


def generate(context: AppContext, qtbot: QtBot, *, recorded: bool = True, seed: int = 3) -> Run:
    request = context.request()
    request = replace(
        request,
        recorded=recorded,
        prompt="To be or",
        prompt_text="To be or",
        seed=seed,
        settings=DecodingSettings(k=3),
        stop=StopConditions(24, ignore_eos=True),
    )
    with qtbot.waitSignal(context.session.run_finished, timeout=60_000) as done:
        context.session.start(request)
    return done.args[0]


def listed(page: HistoryPage, count: int, qtbot: QtBot) -> None:
    page.refresh()
    qtbot.waitUntil(lambda: len(page.model.entries) == count, timeout=30_000)


def test_a_run_is_kept_exactly_with_all_that_made_it(ready: AppContext, history: HistoryService, qtbot: QtBot) -> None:
    run = generate(ready, qtbot)
    record: RunRecord = ask(history, lambda store: store.load(run.uid), qtbot)
    assert record.steps == tuple(run.events)
    assert record.status is RunStatus.FINISHED
    assert (record.seed, record.prompt, record.settings) == (3, "To be or", DecodingSettings(k=3))
    assert ready.model is not None
    assert record.model.fingerprint == ready.model.fingerprint
    assert record.environment.dtype == "float32"
    assert record.environment.torch
    assert record.lookahead is not None
    assert record.lookahead.hash
    assert history.record_of(run).steps == record.steps


def test_warm_ups_are_not_kept(ready: AppContext, history: HistoryService, qtbot: QtBot) -> None:
    generate(ready, qtbot, recorded=False)
    assert ask(history, lambda store: store.entries(), qtbot) == []


def test_an_exported_run_comes_back_as_it_looked(
    ready: AppContext, history: HistoryService, page: HistoryPage, tmp_path: Path, qtbot: QtBot
) -> None:
    run = generate(ready, qtbot)
    seen = RunViewer(ready.theme)
    qtbot.addWidget(seen)
    seen.show_run(run.request.prompt_text, run.events)
    file = tmp_path / "run.json"
    save_record(history.record_of(run), file)

    inspect = InspectPage(ready, history)
    qtbot.addWidget(inspect)
    page.open_requested.connect(inspect.open_record)
    with qtbot.waitSignal(page.open_requested, timeout=30_000):
        page.import_file(file)
    text = seen.text.toPlainText()
    again = inspect.viewer
    assert again.text.toPlainText() == text
    assert [again.text.role_at(i) for i in range(len(text))] == [seen.text.role_at(i) for i in range(len(text))]
    assert again.legend.counts == seen.legend.counts
    for viewer in (seen, again):
        viewer.tabs.setCurrentIndex(PLOTS_TAB)
    assert again.plots.series.speed == seen.plots.series.speed
    listed(page, 2, qtbot)  # the run itself, and its import under an id of its own


def test_a_broken_file_is_refused_in_plain_words(
    ready: AppContext, page: HistoryPage, tmp_path: Path, qtbot: QtBot
) -> None:
    file = tmp_path / "run.json"
    file.write_text('{"format": "pass-run"}')
    with qtbot.waitSignal(ready.error_raised, timeout=30_000) as raised:
        page.import_file(file)
    assert "schema_version" in raised.args[0].sentence


def test_search_rename_pin_delete_and_overlay(
    ready: AppContext, history: HistoryService, page: HistoryPage, qtbot: QtBot
) -> None:
    first, second = generate(ready, qtbot, seed=1), generate(ready, qtbot, seed=2)
    listed(page, 2, qtbot)
    assert [e.id for e in page.model.entries] == [second.uid, first.uid]
    page.select([first.uid, second.uid])
    qtbot.waitUntil(lambda: [len(r.seconds) > 0 for r in page.overlay.runs] == [True, True], timeout=30_000)
    assert page.overlay.runs[1].series.tokens[-1] == first.totals.new_tokens
    assert not page.open_button.isEnabled()

    page.select([first.uid])
    page.model.setData(page.model.index(1, 1), "the older one")
    qtbot.waitUntil(lambda: page.model.entries[1].title == "the older one", timeout=30_000)
    page.pin_button.click()
    qtbot.waitUntil(lambda: page.model.entries[0].id == first.uid, timeout=30_000)
    assert page.pin_button.text() == "Unpin"
    assert [e.id for e in page.selected()] == [first.uid]

    page.search.setText("older")
    qtbot.waitUntil(lambda: [e.id for e in page.model.entries] == [first.uid], timeout=30_000)
    page.search.clear()
    page.delete([second.uid])
    qtbot.waitUntil(lambda: [e.id for e in page.model.entries] == [first.uid], timeout=30_000)
    assert "1 run" in page.size_text.text()


def test_run_again_takes_the_choices_over(
    ready: AppContext, history: HistoryService, page: HistoryPage, qtbot: QtBot
) -> None:
    run = generate(ready, qtbot, seed=77)
    listed(page, 1, qtbot)
    page.select([run.uid])
    with qtbot.waitSignal(ready.setup.changed, timeout=30_000) as asked:
        page.again_button.click()
    setup = asked.args[0]
    assert (setup.prompt_text, setup.seed, setup.settings, setup.stop) == (
        "To be or",
        77,
        run.request.settings,
        run.request.stop,
    )


def test_a_damaged_history_is_reported_and_a_new_one_begun(ready: AppContext, tmp_path: Path, qtbot: QtBot) -> None:
    path = tmp_path / "history.sqlite3"
    path.write_bytes(b"\0damaged" * 4096)
    service = HistoryService(ready, path)
    with qtbot.waitSignal(service.noticed, timeout=30_000) as noticed:
        pass
    assert "set aside" in noticed.args[0]
    run = generate(ready, qtbot)
    service.close()
    store = HistoryStore(path)
    assert store.load(run.uid).steps == tuple(run.events)
    store.close()


def test_deleted_runs_come_back_as_they_were(
    ready: AppContext, history: HistoryService, page: HistoryPage, qtbot: QtBot
) -> None:
    first, second = generate(ready, qtbot, seed=1), generate(ready, qtbot, seed=2)
    listed(page, 2, qtbot)
    page.select([first.uid])
    page.pin_button.click()
    qtbot.waitUntil(lambda: page.model.entries[0].pinned, timeout=30_000)
    before = ask(history, lambda store: (store.entries(), store.load(first.uid)), qtbot)
    assert not page.undo_button.isVisible()
    page.delete([first.uid])
    page.delete([second.uid])
    qtbot.waitUntil(lambda: not page.model.entries, timeout=30_000)
    qtbot.waitUntil(page.undo_button.isVisible, timeout=30_000)
    page.undo_button.click()
    page.undo_button.click()
    qtbot.waitUntil(lambda: len(page.model.entries) == 2, timeout=30_000)
    assert not page.undo_button.isVisible()
    assert ask(history, lambda store: (store.entries(), store.load(first.uid)), qtbot) == before


def test_the_head_tells_the_settings_of_the_step_that_is_open(
    ready: AppContext, history: HistoryService, page: HistoryPage, qtbot: QtBot
) -> None:
    run = generate(ready, qtbot)
    calm, hot = run.events[0].settings, replace(run.events[0].settings, k=1)
    third = len(run.events) // 3
    for number, settings in enumerate((calm, hot, calm)):
        for i in range(number * third, len(run.events) if number == 2 else (number + 1) * third):
            run.events[i] = replace(run.events[i], settings=settings)
    inspect = InspectPage(ready, history)
    qtbot.addWidget(inspect)
    inspect.resize(1400, 700)
    inspect.show_run(run)
    assert inspect.facts.full_text().split("  ·  ")[:2] == [settings_text(calm), "changed twice"]
    inspect.viewer.inspect_token(run.events[third].tokens[0].index)
    assert inspect.facts.full_text().split("  ·  ")[:2] == [settings_text(hot), "changed twice"]


def test_the_generate_page_exports_and_inspects_by_right_click(
    ready: AppContext, history: HistoryService, loop: object, qtbot: QtBot
) -> None:
    generate_page = GeneratePage(ready, Loader(ready))
    qtbot.addWidget(generate_page)
    generate_page.resize(1200, 700)
    generate_page.show()
    menu = TextMenu(generate_page, history, ready)
    assert not generate_page.export_button.isEnabled()
    generate_page.controls.length.spin.setValue(24)
    with qtbot.waitSignal(ready.session.run_finished, timeout=60_000):
        generate_page.run()
    assert generate_page.export_button.isEnabled()
    text = generate_page.text
    number = text.layout_.index_of_token[5]
    cursor = QTextCursor(text.document())
    cursor.setPosition(text._offset + text.layout_.span(number)[0])
    rect = text.cursorRect(cursor)
    entries = menu.menu(rect.center() + QPoint(2, 0)).actions()
    with qtbot.waitSignal(generate_page.inspect_requested, timeout=1000) as asked:
        entries[0].trigger()
    assert asked.args == [5]
    export = next(e.menu() for e in entries if e.text() == "Export")
    assert [a.text() for a in export.actions()] == [a.text() for a in menu.export.actions()]
    copy = next(a for a in export.actions() if a.text() == "Copy text")
    copy.trigger()
    assert QGuiApplication.clipboard().text() == text.plain_text()
