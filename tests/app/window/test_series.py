"""The curves are exact sums of the events."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from PySide6.QtCore import QPointF
from pytestqt.qtbot import QtBot

from app.theme.apply import ThemeManager
from app.widgets.draft_counts import DraftCounts
from app.widgets.live_plots import LivePlots
from app.widgets.plots import calm_end
from app.widgets.series import WINDOW_TOKENS, RunSeries, describe_change
from app.widgets.text_format import settings_text
from pass_core.decoding.events import DraftSource, DraftStatus, Provenance
from pass_core.settings import DecodingSettings, LookaheadPart, SamplingSettings, Strategy, Verification
from tests.app.window.events import draft, step, token


def test_overall_and_windowed_rates() -> None:
    series = RunSeries()
    for i in range(WINDOW_TOKENS):  # slow, one token a call, every draft rejected
        series.add(step(i, [token(i, "a")], [draft("x", DraftStatus.REJECTED)], seconds=0.1))
    n = WINDOW_TOKENS
    for i in range(WINDOW_TOKENS // 2):  # fast, two tokens a call, every draft accepted
        pair = [token(n + 2 * i, "b", Provenance.ACCEPTED, depth=1), token(n + 2 * i + 1, "c", Provenance.BONUS)]
        series.add(step(n + i, pair, [draft("b", DraftStatus.ACCEPTED)], seconds=0.1))
    assert series.tokens[-1] == 2 * n
    assert series.speed[n - 1] == pytest.approx(10)
    assert series.speed[-1] == pytest.approx(20)  # only the fast half is in the window
    assert series.speed_overall[-1] == pytest.approx(2 * n / (0.1 * 1.5 * n))
    assert series.acceptance[-1] == 1
    assert series.acceptance_overall[-1] == pytest.approx(1 / 3)
    assert series.per_call[-1] == 2
    assert series.per_call_overall[-1] == pytest.approx(4 / 3)


def test_nothing_proposed_is_no_rate() -> None:
    series = RunSeries()
    series.add(step(0, [token(0, "a")]))
    assert math.isnan(series.acceptance[0])
    assert math.isnan(series.acceptance_overall[0])


def test_a_dragged_slider_is_one_mark() -> None:
    series = RunSeries()
    base = DecodingSettings(k=5)
    for i, k in enumerate((5, 5, 4, 3, 2, 2, 2, 5)):
        series.add(step(i, [token(i, "a")], settings=replace(base, k=k)))
    assert [(m.tokens, m.text) for m in series.marks] == [(2, "k 5→2"), (7, "k 2→5")]


def test_every_change_is_named() -> None:
    before = DecodingSettings()
    after = DecodingSettings(
        strategy=Strategy.TWO_CALL,
        k=2,
        sampling=SamplingSettings(0.0, 0),
        verification=Verification.REJECTION,
        auto=False,
        prompt_lookup=True,
        disabled_parts=frozenset({LookaheadPart.SAMPLER}),
    )
    assert describe_change(before, after) == (
        "fused→two-call, auto off, k 5→2, top-k 10→off, temperature 0.8→0, coupled→rejection, prompt lookup on, "
        "without sampler"
    )


def test_copied_drafts_stand_apart_by_position(theme: ThemeManager, qtbot: QtBot) -> None:
    plots = LivePlots(theme)
    qtbot.addWidget(plots)
    plots.show()
    plots.start(3)
    assert "copied" not in plots._positions_hint.text()
    copied = replace(draft("b", DraftStatus.ACCEPTED, depth=2, index=1, parent=0), source=DraftSource.LOOKUP)
    pair = [token(0, "a", Provenance.ACCEPTED, depth=1), token(1, "b", Provenance.ACCEPTED, depth=2), token(2, "c")]
    plots.add_steps([step(0, pair, [draft("a", DraftStatus.ACCEPTED), copied])])
    plots.add_steps([step(1, [token(3, "d")], [draft("x", DraftStatus.REJECTED)])])
    plots.redraw()
    assert plots.series.copied_by_position == [0, 1]
    assert plots.positions._bars.opts["height"] == [0.5, 0.0]
    assert plots.positions._copied.opts["height"] == [0.0, 1.0]
    assert list(plots.positions._copied.opts["y0"]) == [0.5, 0.0]
    assert "copied" in plots._positions_hint.text()


def test_what_became_of_the_drafts_adds_up(theme: ThemeManager) -> None:
    counts = DraftCounts()
    kept = [token(0, " a", Provenance.ACCEPTED, depth=1), token(1, " b", Provenance.BONUS)]
    tree = [
        draft(" a", DraftStatus.ACCEPTED, index=0, p_draft=0.62),
        draft(" x", DraftStatus.REJECTED, index=1, p_draft=0.31),
        draft(" y", DraftStatus.UNREACHED, index=2, p_draft=0.9, depth=2, parent=1),
    ]
    one = replace(step(0, kept, tree), rows=(9,), lookahead_rows=5)
    counts.add(one)
    counts.add(replace(step(1, [token(2, " c")]), rows=(1,), lookahead_rows=0))
    assert counts.steps_by_accepted == [1, 1]
    assert (counts.own_rows, counts.kept_rows, counts.lost_rows, counts.lookahead_rows) == (2, 1, 2, 5)
    assert sum((counts.own_rows, counts.kept_rows, counts.lost_rows, counts.lookahead_rows)) == 9 + 1
    assert counts.calibration() == [(0.31, 0.0, 1), (0.62, 1.0, 1)]  # nobody examined the third


def test_the_crosshair_is_shared_and_tells_what_is_there(theme: ThemeManager, qtbot: QtBot) -> None:
    plots = LivePlots(theme)
    qtbot.addWidget(plots)
    plots.resize(300, 700)
    plots.show()
    plots.start(5)
    plots.add_steps([step(n, [token(2 * n, " a"), token(2 * n + 1, " b")], seconds=0.1) for n in range(40)])
    plots.redraw()
    plots.show_token(20)  # of the eleventh step
    assert plots.crosshair is not None
    told = plots.crosshair.texts()
    assert told[0] == "token 22: 20.0\noverall 20.0"
    assert told[1].startswith("token 22: –")  # nothing was drafted
    assert told[2] == "token 22: 2.00\noverall 2.00"
    plots.show_token(None)
    assert plots.crosshair.texts() == ["", "", ""]
    box = plots.speed.getPlotItem().getViewBox()
    with qtbot.waitSignal(plots.token_hovered) as hovered:
        plots.speed.scene().sigMouseMoved.emit(box.mapViewToScene(QPointF(30, 1)))
    assert hovered.args == [29]
    assert plots.crosshair.texts()[2].startswith("token 30")


def test_a_zoom_stays_until_it_is_reset(theme: ThemeManager, qtbot: QtBot) -> None:
    plots = LivePlots(theme)
    qtbot.addWidget(plots)
    plots.show()
    steps = [step(n, [token(n, " a")]) for n in range(200)]
    plots.add_steps(steps[:100])
    plots.redraw()
    box = plots.speed.getPlotItem().getViewBox()
    box.setXRange(10, 20, padding=0)
    box.sigRangeChangedManually.emit([True, False])
    plots.add_steps(steps[100:])
    plots.redraw()
    assert plots.speed.viewRange()[0] == pytest.approx([10, 20])
    plots.speed.reset_zoom()
    assert plots.speed.viewRange()[0] == pytest.approx([0, 224])  # calm steps, so that the axis is seldom drawn anew
    plots.leaf._buttons["drafts"].click()
    assert plots.accepted.heights == [200.0]
    assert plots.accepted.isVisible()
    assert not plots.speed.isVisible()


def test_top_p_and_min_p_are_told_where_they_change() -> None:
    before = DecodingSettings()
    after = replace(before, sampling=SamplingSettings(0.8, 10, 0.9, 0.05))
    assert describe_change(before, after) == "top-p off→0.9, min-p off→0.05"
    assert describe_change(after, before) == "top-p 0.9→off, min-p 0.05→off"
    assert settings_text(after).endswith("temperature 0.8, top-k 10, top-p 0.9, min-p 0.05, coupled")
    assert "top-p" not in settings_text(before)


def test_the_axis_along_a_text_ends_where_it_ended_before_for_most_tokens() -> None:
    ends = [calm_end(tokens) for tokens in range(4096)]
    assert all(tokens <= end <= max(64, 1.25 * tokens + 1) for tokens, end in enumerate(ends))
    assert ends == sorted(ends)
    assert len(set(ends)) == 25
