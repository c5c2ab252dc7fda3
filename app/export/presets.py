"""Presets of settings: a small JSON file that can be kept and passed on; every error names field, value and range."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.state.folders import Place, default_folder
from pass_core.files import write_atomically
from pass_core.records.runs import (
    BrokenRecord,
    settings_from_dict,
    settings_keys,
    settings_to_dict,
    stop_from_dict,
    stop_to_dict,
)
from pass_core.settings import DecodingSettings, RunSettings, StopConditions

PRESET_FORMAT = "pass-preset"
PRESET_VERSION = 1
SUFFIX = ".pass-preset.json"


class PresetError(ValueError):
    """A preset file cannot be used; the message names the field, the value and the range."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Named choices; `seed` is None where the preset leaves the seed alone."""

    name: str
    settings: RunSettings = field(default_factory=DecodingSettings)
    stop: StopConditions = field(default_factory=StopConditions)
    seed: int | None = None


def dumps_preset(preset: Preset) -> str:
    """The file's text."""
    raw: dict[str, Any] = {
        "format": PRESET_FORMAT,
        "schema_version": PRESET_VERSION,
        "name": preset.name,
        "settings": settings_to_dict(preset.settings),
        "stop": stop_to_dict(preset.stop),
        "seed": preset.seed,
    }
    return json.dumps(raw, indent=2, ensure_ascii=False) + "\n"


def loads_preset(text: str) -> Preset:
    """Read a preset; settings that the file leaves out keep their defaults.

    Raises:
        PresetError: naming what is wrong.
    """
    try:
        raw: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PresetError(f"This is no preset: it is no valid JSON ({error}).") from error
    if not isinstance(raw, dict) or raw.get("format") != PRESET_FORMAT:
        raise PresetError(f"This is no preset: “format” is not “{PRESET_FORMAT}”. Choose a file made by Save preset.")
    version = raw.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise PresetError(f"The preset is broken: “schema_version” should be a whole number, but is {version!r}.")
    if version > PRESET_VERSION:
        raise PresetError(f"This preset has version {version}; this program reads up to {PRESET_VERSION}. Update it.")
    name, seed = raw.get("name"), raw.get("seed")
    if not isinstance(name, str) or not name.strip():
        raise PresetError(f"The preset is broken: “name” should be a text, but is {name!r}.")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise PresetError(f"The preset is broken: “seed” should be a whole number of at least 0, but is {seed!r}.")
    try:
        usual, stops = settings_to_dict(DecodingSettings()), stop_to_dict(StopConditions())
        settings = settings_from_dict(_filled(raw.get("settings", {}), usual, settings_keys()))
        stop = stop_from_dict(_filled(raw.get("stop", {}), stops, list(stops)))
    except BrokenRecord as error:
        message = str(error).replace("The run file is broken", "The preset is broken")
        raise PresetError(message.replace(" Export the run again.", "")) from error
    return Preset(name.strip(), settings, stop, seed)


def _filled(raw: Any, defaults: dict[str, Any], keys: Sequence[str]) -> Any:
    if not isinstance(raw, dict):
        return raw
    unknown = sorted(set(raw) - set(keys))
    if unknown:
        known = ", ".join(keys)
        raise PresetError(f"The preset is broken: there is no setting “{unknown[0]}”. Known ones are {known}.")
    return defaults | raw


class PresetFolder:
    """The user's own presets, one file each."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder(Place.SETTINGS) / "presets"

    def presets(self) -> tuple[list[Preset], list[str]]:
        """All presets by name, and a plain sentence for every file that cannot be used."""
        found: list[Preset] = []
        problems: list[str] = []
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                found.append(load_preset(path))
            except PresetError as error:
                problems.append(f"{path.name}: {error}")
        return sorted(found, key=lambda p: p.name.casefold()), problems

    def save(self, preset: Preset) -> Path:
        """Keep a preset; one of the same name is replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path_of(preset.name)
        save_preset(preset, path)
        return path

    def delete(self, name: str) -> None:
        """Forget a preset; one that is not there is no error."""
        self.path_of(name).unlink(missing_ok=True)

    def path_of(self, name: str) -> Path:
        """The file of a name: letters, digits, dash and underscore stay, the rest goes by code point."""
        safe = re.sub(r"[^\w-]", lambda m: f"~{ord(m.group()):x}", name.strip(), flags=re.ASCII)
        return self.folder / f"{safe[:120]}{SUFFIX}"


def save_preset(preset: Preset, path: Path) -> None:
    """Write a preset file atomically.

    Raises:
        WriteError: with the reason.
    """
    write_atomically(path, dumps_preset(preset))


def load_preset(path: Path) -> Preset:
    """Read a preset file.

    Raises:
        PresetError: naming what is wrong.
    """
    try:
        return loads_preset(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise PresetError(f"{path.name} is no preset: it is no UTF-8 text. Choose another file.") from error
    except OSError as error:
        raise PresetError(f"{path} cannot be read: {error.strerror or error}. Choose another file.") from error
