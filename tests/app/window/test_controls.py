"""Controls give back exactly what they are given, and always a valid value."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QPushButton, QSlider, QSpinBox, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from app.theme.apply import ThemeManager
from app.widgets.basic import SliderField, guard_wheel
from app.widgets.choice import Choice
from app.widgets.controls import DecodingControls
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy, Verification


@pytest.fixture
def controls(theme: ThemeManager, qtbot: QtBot) -> DecodingControls:
    controls = DecodingControls(theme)
    qtbot.addWidget(controls)
    controls.show()
    return controls


@pytest.mark.parametrize(
    "settings",
    [
        DecodingSettings(),
        DecodingSettings(Strategy.TWO_CALL, 0, SamplingSettings(0.0, 0), Verification.REJECTION, auto=False),
        DecodingSettings(Strategy.FUSED, 3, SamplingSettings(1.35, 200), row_budget=17, prompt_lookup=True),
        DecodingSettings(Strategy.AUTOREGRESSIVE, 5, SamplingSettings(2.0, 1)),
        DecodingSettings(sampling=SamplingSettings(0.7, 40, 0.925, 0.015)),
        DecodingSettings(sampling=SamplingSettings(0.7, 0, 0.001, 1.0)),
    ],
)
def test_settings_survive_the_controls(controls: DecodingControls, settings: DecodingSettings) -> None:
    stop = StopConditions(300, ("\n\n", "END"), ignore_eos=True)
    controls.set_settings(settings, stop, 123)
    assert controls.settings() == settings
    assert controls.stop_conditions() == stop
    assert controls.seed() == 123


def test_slider_and_spin_box_agree(qtbot: QtBot) -> None:
    field = SliderField("Temperature", 0, 2, step=0.05, decimals=2)
    qtbot.addWidget(field)
    seen: list[float] = []
    field.changed.connect(seen.append)
    field.slider.setValue(17)
    assert field.value() == pytest.approx(0.85)
    field.spin.setValue(1.23)
    assert field.value() == 1.23  # the spin box may hold what the slider cannot show
    assert field.slider.value() == 25
    assert seen == [pytest.approx(0.85), 1.23]


def test_top_p_is_off_at_its_end(qtbot: QtBot, controls: DecodingControls) -> None:
    field = controls.top_p
    assert (field.value(), field.spin.text()) == (1.0, "off")
    assert not field.isVisible()
    field.spin.setValue(0.9)
    assert controls.settings().sampling.top_p == 0.9
    assert field.spin.text() == field.spin.locale().toString(0.9, "f", 3)
    for typed, value in (("off", 1.0), (field.spin.locale().toString(0.5, "f", 1), 0.5)):
        field.spin.selectAll()
        qtbot.keyClicks(field.spin, typed)
        qtbot.keyClick(field.spin, Qt.Key.Key_Return)
        assert field.value() == value
    controls.min_p.slider.setValue(5)
    assert controls.settings().sampling == SamplingSettings(0.8, 10, 0.5, 0.05)


def test_what_is_in_force_does_not_hide(controls: DecodingControls) -> None:
    controls.set_settings(DecodingSettings(sampling=SamplingSettings(min_p=0.1)), StopConditions(), 0)
    assert controls.min_p.isVisible()
    assert controls.top_p.isVisible()


def test_k_ends_at_l(controls: DecodingControls) -> None:
    controls.set_lookahead_count(8)
    assert controls.settings().k == 6  # it was at the usual length, and stays there: the file's L, at most 6
    controls.k.set_value(4)
    controls.set_lookahead_count(3)
    assert controls.settings().k == 3
    assert controls.k.slider.maximum() == 3


def test_a_model_that_cannot_draft_runs_plain(controls: DecodingControls) -> None:
    controls.set_pass_supported(False)
    assert controls.settings().strategy is Strategy.AUTOREGRESSIVE
    assert not controls.k.isEnabled()


def test_seed_is_kept_or_renewed(controls: DecodingControls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.widgets.controls.random.randrange", lambda n: 4711)
    controls.after_run()
    assert controls.seed() == 0
    controls.reuse.setChecked(False)
    controls.after_run()
    assert controls.seed() == 4711


def test_the_wheel_does_not_move_a_slider_that_is_only_passed(controls: DecodingControls, qtbot: QtBot) -> None:
    assert controls.temperature.slider.focusPolicy() == Qt.FocusPolicy.StrongFocus


def test_the_wheel_changes_only_what_has_the_focus(qtbot: QtBot, theme: ThemeManager) -> None:
    """Else scrolling over a form would change it; the page scrolls instead (the event is not taken)."""
    ground = QWidget()
    qtbot.addWidget(ground)
    column = QVBoxLayout(ground)
    spin, slider, choice, other = QSpinBox(), QSlider(), Choice(theme), QPushButton("other")
    choice.addItems(["a", "b", "c"])
    choice.setCurrentIndex(1)
    spin.setValue(5)
    slider.setValue(50)
    for widget in (spin, slider):
        guard_wheel(widget)
    for widget in (other, spin, slider, choice):
        column.addWidget(widget)
    ground.show()
    ground.activateWindow()
    qtbot.waitUntil(ground.isActiveWindow)

    def turn(widget: QWidget) -> bool:
        middle = QPointF(widget.rect().center())
        none, phase = Qt.MouseButton.NoButton, Qt.ScrollPhase.NoScrollPhase
        place = QPointF(widget.mapToGlobal(middle.toPoint()))
        event = QWheelEvent(
            middle, place, QPoint(), QPoint(0, -120), none, Qt.KeyboardModifier.NoModifier, phase, False
        )
        QApplication.sendEvent(widget, event)
        return event.isAccepted()

    values = ((spin, spin.value), (slider, slider.value), (choice, choice.currentIndex))
    for widget, value in values:
        other.setFocus()
        before = value()
        assert not turn(widget)
        assert value() == before
        widget.setFocus()
        assert turn(widget)
        assert value() != before
        assert widget.focusPolicy() is Qt.FocusPolicy.StrongFocus
