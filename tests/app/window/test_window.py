"""The frame: pages, drops, themes, preferences, display."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.compare.page import ComparePage
from app.start.display import why_no_window
from app.state.context import AppContext
from app.state.loader import Loader, ModelChoice
from app.state.preferences import Preferences
from app.state.remembered import load_choice, load_setup, save_choice, save_setup
from app.state.setup import GenerationSetup
from app.theme.apply import ThemeManager, ThemeMode, style_sheet
from app.theme.roles import THEMES
from app.widgets.log import LogKeeper
from app.widgets.page import Page
from app.window import MainWindow, dropped_kind
from pass_core.decoding.events import StopReason
from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from pass_core.models.shipped import default_lookahead
from pass_core.records.runs import settings_to_dict
from pass_core.settings import BaselineSettings, DecodingSettings, LookaheadPart, SamplingSettings, StopConditions


class SmallPage(Page):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def page_shown(self) -> None:
        self.calls.append("shown")

    def page_hidden(self) -> None:
        self.calls.append("hidden")


def test_pages_are_told_when_they_come_and_go(context: AppContext, loader: Loader, qtbot: QtBot) -> None:
    window = MainWindow(context, loader, LogKeeper())
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    page = SmallPage()
    window.add_page("small", "Small", "ph.gear", page)
    context.page_requested.emit("small")
    assert page.calls == ["shown"]
    window.show_page("generate")
    assert page.calls == ["shown", "hidden"]
    assert window.page("small") is page


def test_a_theme_that_is_there_already_draws_nothing_anew(theme: ThemeManager, qtbot: QtBot) -> None:
    theme.set_mode(ThemeMode.LIGHT)
    try:
        with qtbot.assertNotEmitted(theme.changed):
            theme.set_mode(ThemeMode.LIGHT)
        with qtbot.waitSignal(theme.changed):
            theme.set_mode(ThemeMode.DARK)
        assert theme.current.dark
    finally:
        theme.set_mode(ThemeMode.LIGHT)


def test_themes_switch_and_are_remembered(context: AppContext, loader: Loader, qtbot: QtBot) -> None:
    window = MainWindow(context, loader, LogKeeper())
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    window.set_theme(ThemeMode.DARK)
    try:
        assert context.theme.current is THEMES["dark"]
        assert context.preferences.get("theme", "") == "dark"
    finally:
        context.theme.set_mode(ThemeMode.LIGHT)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_style_sheets_have_every_role_filled_in(name: str) -> None:
    assert "$" not in style_sheet(THEMES[name])


def contrast(a: str, b: str) -> float:
    """WCAG contrast ratio of two #rrggbb colours."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_is_readable(name: str) -> None:
    theme = THEMES[name]
    assert contrast(theme.text, theme.surface) >= 7
    for ground in (theme.surface, theme.window, theme.sunken):
        assert contrast(theme.text_muted, ground) >= 4.5
        assert contrast(theme.text_faint, ground) >= 4.5
    assert contrast(theme.on_accent, theme.accent) >= 4.5
    for role, style in theme.tokens.items():
        needed = 3.5 if role == "ghost" else 4.5
        assert contrast(style.color, style.fill or theme.surface) >= needed, role


def test_what_can_be_dropped(tmp_path: Path) -> None:
    assert dropped_kind([str(tmp_path)]) == ("model", str(tmp_path))
    assert dropped_kind(["/x/model.GGUF"]) == ("model", "/x/model.GGUF")
    assert dropped_kind(["/x/readme.txt", "/x/best.safetensors"]) == ("lookahead", "/x/best.safetensors")
    assert dropped_kind(["/x/readme.txt"]) is None
    assert dropped_kind([]) is None


def test_preferences_survive_and_damage_is_forgiven(tmp_path: Path) -> None:
    path = tmp_path / "settings.ini"
    first = Preferences(path)
    first.set("a/number", 3)
    first.set("a/list", ["x"])
    first.save()
    again = Preferences(path)
    assert again.get("a/number", 0) == 3
    assert again.get("a/list", []) == ["x"]
    assert again.get("a/number", "text") == "text"  # another type than the caller can use
    path.write_bytes(b"\x00\xff[broken\n=1\na/number=@Invalid(")
    assert Preferences(path).get("a/number", 7) == 7
    nowhere = Preferences(path / "below a file" / "settings.ini")
    nowhere.set("a", 2)
    nowhere.save()
    assert nowhere.get("a", 1) == 2


def test_choices_survive(context: AppContext, tmp_path: Path) -> None:
    context.preferences = Preferences(tmp_path / "settings.ini")
    setup = GenerationSetup(
        "prompt ✓",
        True,
        5,
        DecodingSettings(k=2, sampling=SamplingSettings(0, 0), disabled_parts=frozenset({LookaheadPart.DEEP})),
        StopConditions(7, ("a|b",), True),
    )
    context.setup.set(setup)
    save_setup(context)
    save_choice(context, ModelChoice("some/model", "cpu", "float32", "int8"), [])
    context.preferences.save()
    context.preferences = Preferences(tmp_path / "settings.ini")
    assert load_setup(context, GenerationSetup()) == setup
    assert load_choice(context) == ModelChoice("some/model", "cpu", "float32", "int8")
    context.preferences.set(
        "generate/settings", settings_to_dict(BaselineSettings(k=9, sampling=SamplingSettings(0.3)))
    )
    assert load_setup(context, GenerationSetup()).settings == DecodingSettings(sampling=SamplingSettings(0.3))
    context.preferences.set("generate/settings", {"k": "many"})
    assert load_setup(context, GenerationSetup()).settings == DecodingSettings()


def test_no_display_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert "no display" in why_no_window({})
    assert "--screenshot" in why_no_window({})
    assert why_no_window({"QT_QPA_PLATFORM": "offscreen"}) == ""
    assert why_no_window({"WAYLAND_DISPLAY": "wayland-0"}) == ""


def test_every_icon_exists() -> None:
    """A name that the icon set does not know would end the program where it is first shown."""
    import json
    import re

    import qtawesome

    fonts = Path(qtawesome.__file__).parent / "fonts"
    known = set(json.loads(next(fonts.glob("phosphor-charmap-*.json")).read_text()))
    app = Path(__file__).resolve().parents[3] / "app"
    used = {n for f in app.rglob("*.py") for n in re.findall(r'"ph\.([a-z0-9-]+)"', f.read_text(encoding="utf-8"))}
    assert used - known == set()


@pytest.fixture
def whole(context: AppContext, loader: Loader, tiny_model: LanguageModel, qtbot: QtBot) -> MainWindow:
    """A window with Generate and Compare and the tiny model, ready to write 200 tokens."""
    window = MainWindow(context, loader, LogKeeper())
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    window.add_page("compare", "Compare", "ph.columns", ComparePage(context))
    window.show()
    context.set_engine(Engine(tiny_model))
    context.set_lookahead(default_lookahead(tiny_model))
    window.generate.controls.length.set_value(200)
    window.generate.controls.ignore_eos.setChecked(True)
    window.generate.controls.changed.emit()
    return window


def press(window: MainWindow, key: Qt.Key, modifiers: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
    window.activateWindow()
    QTest.keyClick(window, key, modifiers)


def test_escape_stops_a_comparison(whole: MainWindow, context: AppContext, qtbot: QtBot) -> None:
    page = whole.page("compare")
    assert isinstance(page, ComparePage)
    page.runner.steps_arrived.connect(lambda *_: press(whole, Qt.Key.Key_Escape))
    with qtbot.waitSignal(page.runner.finished, timeout=120_000):
        press(whole, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
        assert page.isVisible()
    assert page.runner.void == "it was stopped"
    assert not page.stop_action.isEnabled()
    assert not whole.generate.stop_action.isEnabled()


def test_run_from_another_page_shows_what_it_writes(whole: MainWindow, context: AppContext, qtbot: QtBot) -> None:
    whole.show_page("compare")
    context.session.steps_arrived.connect(lambda *_: press(whole, Qt.Key.Key_Escape))
    with qtbot.waitSignal(context.session.run_finished, timeout=60_000):
        press(whole, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        assert whole.generate.isVisible()
    assert whole.generate.text.steps[-1].stop_reason is StopReason.CANCELLED


def test_an_error_leaves_when_it_is_overcome(whole: MainWindow, context: AppContext, qtbot: QtBot) -> None:
    prompt = whole.generate.prompt.text()
    whole.generate.prompt.set_text("")
    whole.generate.run()
    assert whole.banner.isVisible()
    whole.generate.prompt.set_text(prompt)
    context.session.steps_arrived.connect(lambda *_: whole.generate.stop())
    with qtbot.waitSignal(context.session.run_finished, timeout=60_000):
        whole.generate.run()
        assert not whole.banner.isVisible()


def test_a_prompt_that_fills_the_context_is_said_before_it_runs(
    whole: MainWindow, context: AppContext, qtbot: QtBot
) -> None:
    started: list[object] = []
    context.session.run_started.connect(started.append)
    page = whole.generate
    page.prompt.set_text("word " * 100)
    with qtbot.waitSignal(page.prompt.changed, timeout=10_000):
        pass
    assert page.prompt.count.text() == "500 of 256 tokens"
    assert page.prompt.count.property("tone") == "bad"
    page.run()
    assert whole.banner.sentence.text() == (
        "The prompt has 500 tokens, and that fills the model's context of 256. Shorten it."
    )
    assert started == []  # no empty run, and what was written before stays
    page.prompt.set_text("word")
    with qtbot.waitSignal(page.prompt.changed, timeout=10_000):
        pass
    assert page.prompt.count.property("tone") == ""
