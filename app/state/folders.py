"""Where the program keeps what it writes on this machine; two of the places can be chosen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import platformdirs

from app.state.preferences import Preferences
from pass_core.files import CACHE_VARIABLE, cache_folder

APP = "pass-playground"
HUB_VARIABLE = "HF_HUB_CACHE"


class Place(StrEnum):
    """What is kept."""

    MODELS = "models"
    CACHE = "cache"
    HISTORY = "history"
    TRAINED = "trained"
    MEASUREMENTS = "measurements"
    SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class PlaceInfo:
    """What people are told of a place.

    Attributes:
        title, tip: what it is, and what lies there.
        chosen_here: whether the window can put it elsewhere.
        variable: the environment variable that puts it elsewhere, "" where none does.
    """

    title: str
    tip: str
    chosen_here: bool = False
    variable: str = ""


PLACES: dict[Place, PlaceInfo] = {
    Place.HISTORY: PlaceInfo("History", "Every run with all its steps, in one file.", chosen_here=True),
    Place.TRAINED: PlaceInfo("Trained files", "Look-ahead files that were trained here.", chosen_here=True),
    Place.MODELS: PlaceInfo("Downloaded models", "The cache that all programs share.", variable=HUB_VARIABLE),
    Place.CACHE: PlaceInfo("Cache", "What can be computed or fetched again.", variable=CACHE_VARIABLE),
    Place.MEASUREMENTS: PlaceInfo("Measurements", "Benchmarks that can be continued."),
    Place.SETTINGS: PlaceInfo("Settings", "These preferences and your presets."),
}


def folder_of(place: Place, preferences: Preferences) -> Path:
    """The folder of a place as it is chosen now; it may not exist yet."""
    if PLACES[place].chosen_here and (chosen := preferences.get(_key(place), "")):
        return Path(chosen)
    return default_folder(place)


def default_folder(place: Place, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of a place where nobody chose one."""
    data = platformdirs.user_data_path(APP, appauthor=False)
    match place:
        case Place.MODELS:
            return _hub_cache(environment)
        case Place.CACHE:
            return cache_folder()
        case Place.HISTORY:
            return data
        case Place.SETTINGS:
            return platformdirs.user_config_path(APP, appauthor=False)
        case _:
            return data / place.value


def choose_folder(place: Place, preferences: Preferences, folder: Path | None) -> None:
    """Remember another folder; None goes back to the default one."""
    preferences.set(_key(place), "" if folder is None or folder == default_folder(place) else str(folder))


def is_chosen(place: Place, preferences: Preferences) -> bool:
    """Whether the place is elsewhere than by default."""
    return folder_of(place, preferences) != default_folder(place)


def _key(place: Place) -> str:
    return f"folders/{place.value}"


def _hub_cache(environment: Mapping[str, str]) -> Path:
    """As huggingface_hub has it, without importing it."""
    if chosen := environment.get(HUB_VARIABLE):
        return Path(chosen).expanduser()
    if home := environment.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"
