"""The Benchmark page on the tiny model: measure, stop, go on, export; HumanEval with and without consent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.benchmark.bench_plots import CallCostPlot, TimePlot, calm_end
from app.benchmark.page import BenchmarkPage
from app.state.context import AppContext
from pass_core.engine import Engine
from pass_core.evaluation.speed.plan import PlanError
from tests import tiny


@pytest.fixture
def page(ready: AppContext, qtbot: QtBot) -> BenchmarkPage:
    page = BenchmarkPage(ready)
    qtbot.addWidget(page)
    form = page.speed.form
    form.ks.setText("1, 2")
    form.tokens.setValue(8)
    form.prompts.setValue(1)
    form.minutes.setValue(0)
    return page


def finish(page: BenchmarkPage, qtbot: QtBot) -> None:
    job = page.speed.job if page.speed.job.active else page.humaneval.job
    assert job.active
    with qtbot.waitSignal(job.ended, timeout=60_000):
        pass


def test_a_benchmark_fills_table_and_figures(page: BenchmarkPage, ready: AppContext, qtbot: QtBot) -> None:
    speed = page.speed
    speed.form.transformers.setChecked(False)
    speed.bar.run.click()
    assert ready.busy_with == "a benchmark"
    assert speed.bar.stop.isVisibleTo(page)
    assert not speed.form.isEnabled()
    finish(page, qtbot)
    assert speed.report is not None
    assert speed.report.complete
    assert not speed.bar.resume.isVisibleTo(page)
    # plain, k = 1, k = 2, k = 2 with lookup
    assert speed.table.rowCount() == 4
    assert speed.table.item(0, 0).text() == "autoregressive"
    assert speed.table.item(1, 7).text() == "3 of 3"
    assert "best" in speed.time_plot.legend.text()
    assert "floor" in speed.cost_plot.legend.text()
    assert ready.busy_with == ""


def test_a_stopped_benchmark_goes_on(page: BenchmarkPage, ready: AppContext, qtbot: QtBot) -> None:
    speed = page.speed
    speed.start()

    def stop(_event: object) -> None:
        speed.job.received.disconnect(stop)
        speed.bar.stop.click()

    speed.job.received.connect(stop)
    finish(page, qtbot)
    assert speed.report is not None
    done = len(speed.report.samples)
    assert not speed.report.complete
    assert speed.bar.resume.isVisibleTo(page)
    speed.bar.resume.click()
    finish(page, qtbot)
    assert speed.report.complete
    assert len(speed.report.samples) == 18 > done


def test_exports(page: BenchmarkPage, qtbot: QtBot, tmp_path: Path) -> None:
    page.speed.form.transformers.setChecked(False)
    page.speed.start()
    finish(page, qtbot)
    for suffix in ("json", "csv", "md", "svg", "png"):
        page.speed.export(tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").stat().st_size > 100
    assert json.loads((tmp_path / "a.json").read_text())["complete"] is True


def test_a_generation_is_refused_meanwhile(page: BenchmarkPage, ready: AppContext, qtbot: QtBot) -> None:
    from app.engine.session import RunRefused

    page.speed.start()
    with pytest.raises(RunRefused, match="a benchmark"):
        ready.session.start(ready.request())
    page.speed.stop()
    finish(page, qtbot)


def test_broken_choices_are_said_plainly(page: BenchmarkPage, ready: AppContext, qtbot: QtBot) -> None:
    form = page.speed.form
    form.ks.setText("one")
    with pytest.raises(PlanError, match="list of numbers"):
        form.plan(5, True)
    assert "list of numbers" in form.estimate.text()
    with qtbot.waitSignal(ready.error_raised) as raised:
        page.speed.start()
    assert "list of numbers" in raised.args[0].sentence
    assert ready.busy_with == ""


def test_sizes_fill_the_form(page: BenchmarkPage) -> None:
    form = page.speed.form
    form.extent.chosen.emit("full")
    plan = form.plan(5, True)
    assert len(plan.prompts) == 60
    assert plan.temperatures == (0.0, 0.8)
    assert {c.k for c in plan.contestants if c.strategy == "pass"} == {1, 2, 3, 4, 5}


def test_own_prompts_replace_the_sets(page: BenchmarkPage, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("one\ntwo\n")
    page.speed.form.use_prompt_file(path)
    assert [p.text for p in page.speed.form.plan(5, True).prompts] == ["one", "two"]


def test_empty_figures_say_so(page: BenchmarkPage) -> None:
    assert isinstance(page.speed.time_plot, TimePlot)
    assert isinstance(page.speed.cost_plot, CallCostPlot)
    assert "Nothing" in page.speed.time_plot.legend.text()


@pytest.mark.parametrize(("value", "end"), [(0.9, 1.0), (33.0, 40.0), (10.0, 10.0), (151.0, 160.0)])
def test_axes_end_calmly(value: float, end: float) -> None:
    assert calm_end(value) == pytest.approx(end)


@pytest.mark.parametrize("agreed", [False, True])
def test_humaneval_runs_code_only_with_consent(context: AppContext, qtbot: QtBot, agreed: bool) -> None:
    context.set_engine(Engine(tiny.tiny_llama(tokenizer=True, context=2048)))
    page = BenchmarkPage(context)
    qtbot.addWidget(page)
    panel = page.humaneval
    panel.problems.setValue(2)
    panel.tokens.setValue(16)
    panel.consent.setChecked(agreed)
    panel.bar.run.click()
    finish(page, qtbot)
    assert panel.report is not None
    assert panel.table.rowCount() == 2
    assert panel.table.item(0, 5).text() == ("0 of 2" if agreed else "not run")
    assert "2 of 2 programs are the same" in panel.verdict.text()


def test_what_holds_programs_back_is_said_before_consent(context: AppContext, qtbot: QtBot) -> None:
    page = BenchmarkPage(context)
    qtbot.addWidget(page)
    panel = page.humaneval
    assert not panel.consent.isEnabled()
    page.show()
    panel.show()
    qtbot.waitUntil(panel.consent.isEnabled, timeout=30_000)
    assert not panel.consent.isChecked()
    assert "a time limit; a judge that it cannot see" in panel.protections.text()
    assert "Without your consent" in panel.protections.text()
