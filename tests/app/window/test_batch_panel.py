"""The Batch tab on the tiny model: run, watch, stop, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.benchmark.batch_panel import BatchPanel
from app.state.context import AppContext
from app.state.setup import GenerationSetup
from pass_core.settings import Strategy


@pytest.fixture
def panel(ready: AppContext, qtbot: QtBot) -> BatchPanel:
    ready.setup.set(GenerationSetup("To be or not"))
    panel = BatchPanel(ready)
    qtbot.addWidget(panel)
    panel.form.ks.setText("2")
    panel.form.tokens.setValue(8)
    panel.form.go_on.setChecked(True)
    panel.resize(1000, 600)
    panel.show()
    return panel


def cells(panel: BatchPanel) -> list[list[str]]:
    table = panel.table
    return [[table.item(r, c).text() for c in range(table.columnCount())] for r in range(table.rowCount())]


def test_a_batch_fills_the_table_and_is_exported(
    panel: BatchPanel, ready: AppContext, qtbot: QtBot, tmp_path: Path
) -> None:
    assert panel.form.prompt.full_text() == "To be or not"
    assert panel.form.estimate.text() == "2 settings with 5 seeds each: 10 runs of up to 8 tokens."
    left: list[float | None] = []
    panel.job.progressed.connect(lambda progress: left.append(progress.seconds_left))
    with qtbot.waitSignal(panel.job.ended, timeout=60_000):
        panel.bar.run.click()
        assert ready.busy_with == "a batch"
        assert panel.bar.stop.isVisibleTo(panel)
        assert not panel.form.isEnabled()
    assert any(seconds for seconds in left)
    plain, fused = cells(panel)
    assert (plain[0], fused[0]) == ("Plain", "PASS fused, k 2")
    assert plain[3].endswith(", n = 5)")
    assert "–" in plain[3], "five runs have an interval"
    assert fused[-1] == "5 of 5"
    assert panel.summary.full_text() == "10 of 10 runs done"
    assert panel.form.isEnabled()
    panel.export(tmp_path / "batch.json")
    assert json.loads((tmp_path / "batch.json").read_text())["complete"] is True
    panel.export(tmp_path / "batch.csv")
    assert len((tmp_path / "batch.csv").read_text().splitlines()) == 3


def test_stop_keeps_what_is_done_and_shows_no_interval(panel: BatchPanel, qtbot: QtBot) -> None:
    def stop(event: object) -> None:
        if len(panel._runs) == 3:
            panel.bar.stop.click()

    panel.form.seeds.setText("0-9")
    panel.job.received.connect(stop)
    with qtbot.waitSignal(panel.job.ended, timeout=60_000):
        panel.start()
    assert panel.report is not None
    assert not panel.report.complete
    assert 3 <= len(panel.report.runs) < 20
    assert all("–" not in row[3] for row in cells(panel)), "under five runs there is no interval"
    assert panel.export_button.isEnabled()


def test_choices_that_cannot_be_used_are_said(panel: BatchPanel, ready: AppContext, qtbot: QtBot) -> None:
    for change, words in (
        (lambda: panel.form.seeds.setText("x"), "list of numbers"),
        (lambda: panel.form.seeds.setText("0-20000"), "at most"),
        (lambda: (panel.form.seeds.setText("1"), panel.form.temperatures.setText("9")), "between 0 and 2"),
        (lambda: (panel.form.temperatures.setText("1"), ready.setup.set(GenerationSetup(" "))), "prompt is empty"),
    ):
        change()
        assert words in panel.form.estimate.text()
        with qtbot.waitSignal(ready.error_raised) as raised:
            panel.start()
        assert words in raised.args[0].sentence
    ready.setup.set(GenerationSetup("again"))
    for box in panel.form.strategies.values():
        box.setChecked(False)
    assert "at least one setting" in panel.form.estimate.text()
    panel.form.strategies[Strategy.TWO_CALL].setChecked(True)
    assert panel.form.estimate.text().startswith("1 setting with 1 seed each: 1 run")
