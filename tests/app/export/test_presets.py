"""Presets survive their file, and broken ones are refused with field, value and range."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.export.presets import Preset, PresetError, PresetFolder, dumps_preset, load_preset, loads_preset
from pass_core.settings import DecodingSettings, SamplingSettings
from tests.core.records import strategies

presets = st.builds(
    Preset,
    name=st.text(min_size=1, max_size=20).map(str.strip).filter(bool),
    settings=strategies.settings,
    stop=strategies.stops,
    seed=st.none() | st.integers(0, 2**31),
)


@given(presets)
def test_a_preset_survives_its_file(preset: Preset) -> None:
    assert loads_preset(dumps_preset(preset)) == preset


def test_what_is_left_out_keeps_its_default() -> None:
    text = json.dumps({"format": "pass-preset", "schema_version": 1, "name": "cold", "settings": {"temperature": 0}})
    assert loads_preset(text) == Preset("cold", DecodingSettings(sampling=SamplingSettings(temperature=0.0)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": {"temperature": 2.5}}, ["temperature", "2.5", "between 0 and 2"]),
        ({"settings": {"top_k": 300}}, ["top-k", "300", "between 1 and 200"]),
        ({"settings": {"k": "five"}}, ["settings.k", "five", "whole number"]),
        ({"settings": {"strategy": "magic"}}, ["settings.strategy", "magic", "autoregressive, pass-two-call, pass"]),
        ({"settings": {"temprature": 1}}, ["temprature", "temperature"]),
        ({"settings": []}, ["settings", "object"]),
        ({"stop": {"max_new_tokens": 0}}, ["stop.max_new_tokens", "0", "at least 1"]),
        ({"seed": -1}, ["seed", "-1", "at least 0"]),
        ({"name": " "}, ["name"]),
        ({"schema_version": 2}, ["version 2", "up to 1"]),
        ({"format": "other"}, ["no preset"]),
    ],
)
def test_a_broken_preset_names_field_value_and_range(change: dict[str, object], said: list[str]) -> None:
    raw = json.loads(dumps_preset(Preset("x"))) | change
    with pytest.raises(PresetError) as caught:
        loads_preset(json.dumps(raw))
    for word in said:
        assert word in str(caught.value)
    assert "run file" not in str(caught.value)


def test_no_json_at_all(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="no valid JSON"):
        loads_preset("{")
    with pytest.raises(PresetError, match="cannot be read"):
        load_preset(tmp_path / "absent.json")


def test_the_folder_keeps_replaces_and_deletes(tmp_path: Path) -> None:
    folder = PresetFolder(tmp_path / "presets")
    folder.save(Preset("b/../ö", seed=1))
    folder.save(Preset("A", seed=2))
    folder.save(Preset("A", seed=3))
    (folder.folder / "broken.pass-preset.json").write_text("{")
    found, problems = folder.presets()
    assert [(p.name, p.seed) for p in found] == [("A", 3), ("b/../ö", 1)]
    assert [p.parent for p in tmp_path.rglob("*.json")] == [folder.folder] * 3
    assert len(problems) == 1
    assert "broken.pass-preset.json" in problems[0]
    folder.delete("A")
    folder.delete("A")
    assert [p.name for p in folder.presets()[0]] == ["b/../ö"]
