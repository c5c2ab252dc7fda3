"""Presets and exports as the menus reach them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from app.export.menu import KINDS, export_menu, file_name, write
from app.export.preset_menu import PresetMenu
from app.export.presets import Preset, PresetFolder, dumps_preset
from app.state.context import AppContext
from app.state.setup import GenerationSetup
from pass_core.records.runs import load_record
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions
from tests.core.records import strategies


@pytest.fixture
def menu(context: AppContext, tmp_path: Path, qtbot: QtBot) -> PresetMenu:
    menu = PresetMenu(context, PresetFolder(tmp_path / "presets"))
    qtbot.addWidget(menu)
    return menu


def titles(menu: PresetMenu) -> list[str]:
    menu.fill()
    return [a.text() for a in menu.actions() if a.text()]


def test_a_saved_preset_is_listed_and_taken_back(menu: PresetMenu, context: AppContext, qtbot: QtBot) -> None:
    cold = DecodingSettings(k=2, sampling=SamplingSettings(0.0))
    context.setup.set(GenerationSetup("a prompt", seed=4, settings=cold, stop=StopConditions(9)))
    assert titles(menu)[0] == "No presets yet"
    menu.save("cold")
    context.setup.set(GenerationSetup("another prompt", seed=5))
    assert titles(menu)[0] == "cold"
    with qtbot.waitSignal(context.setup.changed) as asked:
        menu.actions()[0].trigger()
    assert asked.args[0] == GenerationSetup("another prompt", seed=5, settings=cold, stop=StopConditions(9))


def test_a_preset_from_a_file_is_taken_and_kept(
    menu: PresetMenu, context: AppContext, tmp_path: Path, qtbot: QtBot
) -> None:
    file = tmp_path / "shared.json"
    file.write_text(dumps_preset(Preset("shared", DecodingSettings(k=1), seed=8)))
    with qtbot.waitSignal(context.setup.changed) as asked:
        menu.open_file(file)
    assert (asked.args[0].settings.k, asked.args[0].seed) == (1, 8)
    assert titles(menu)[0] == "shared"


def test_a_broken_preset_says_why(menu: PresetMenu, context: AppContext, tmp_path: Path, qtbot: QtBot) -> None:
    file = tmp_path / "broken.json"
    file.write_text(dumps_preset(Preset("x")).replace('"temperature": 0.8', '"temperature": 9'))
    with qtbot.waitSignal(context.error_raised) as raised:
        menu.open_file(file)
    assert "temperature must be between 0 and 2, not 9" in raised.args[0].sentence
    assert titles(menu)[0] == "No presets yet"


def test_what_is_written_can_be_opened(menu: PresetMenu, context: AppContext, tmp_path: Path, qtbot: QtBot) -> None:
    context.setup.set(GenerationSetup(settings=DecodingSettings(k=3)))
    menu.write_file(tmp_path / "mine.pass-preset.json")
    context.setup.set(GenerationSetup(settings=DecodingSettings(k=4)))
    with qtbot.waitSignal(context.setup.changed) as asked:
        menu.open_file(tmp_path / "mine.pass-preset.json")
    assert asked.args[0].settings.k == 3
    assert titles(menu)[0] == "mine"


def test_every_kind_of_export_is_written(tmp_path: Path) -> None:
    record = strategies.example_record()
    for kind in KINDS:
        path = tmp_path / file_name(record, kind.suffix)
        write(record, kind, path)
        assert path.stat().st_size > 100
    assert load_record(tmp_path / "example.json") == record
    assert len(list(tmp_path.iterdir())) == len(KINDS)


def test_file_names_are_safe_everywhere() -> None:
    record = replace(strategies.example_record(), title='a/b:c*"d"\n')
    assert file_name(record, ".json") == "a-b-c-d.json"
    assert file_name(replace(record, title="…"), ".json") == "pass-run.json"
    assert file_name(replace(record, title=""), ".csv") == "pass-run-20260131-120000.csv"


def test_copying_from_the_menu(context: AppContext, menu: PresetMenu, qtbot: QtBot) -> None:
    made = export_menu(context, menu, lambda then: then(strategies.example_record()))
    actions = {a.text(): a for a in made.actions()}
    actions["Copy text"].trigger()
    assert QGuiApplication.clipboard().text() == " café is open."
    actions["Copy coloured text"].trigger()
    assert "color:" in QGuiApplication.clipboard().mimeData().html()
