"""Where things are kept: defaults, choices, and the same answers as the libraries that write there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.start.threads import KEY, VARIABLE, apply_threads, set_outside
from app.state.folders import PLACES, Place, choose_folder, default_folder, folder_of, is_chosen
from app.state.preferences import Preferences


def test_only_some_places_can_be_chosen(tmp_path: Path) -> None:
    preferences = Preferences(None)
    for place, info in PLACES.items():
        assert folder_of(place, preferences) == default_folder(place)
        choose_folder(place, preferences, tmp_path)
        assert (folder_of(place, preferences) == tmp_path) is info.chosen_here is is_chosen(place, preferences)
        choose_folder(place, preferences, None)
        assert not is_chosen(place, preferences)
    assert {p for p, info in PLACES.items() if info.chosen_here} == {Place.HISTORY, Place.TRAINED}


@pytest.mark.parametrize("variables", [{}, {"HF_HOME": "/somewhere/hf"}, {"HF_HUB_CACHE": "/elsewhere/hub"}])
def test_the_models_folder_is_where_the_hub_library_puts_them(variables: dict[str, str], tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin", "HOME": str(tmp_path), **variables}
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    own = "from app.state.folders import *; print(default_folder(Place.MODELS))"
    root = str(Path(__file__).resolve().parents[3])
    ours = subprocess.run(
        [sys.executable, "-c", own],
        env=environment | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert ours.stdout == done.stdout


def test_threads_go_by_the_environment_first() -> None:
    preferences = Preferences(None)
    environment: dict[str, str] = {}
    apply_threads(preferences, environment)
    assert environment == {}
    preferences.set(KEY, 3)
    apply_threads(preferences, environment)
    assert environment[VARIABLE] == "3"
    assert set_outside(environment) == ""
    outside = {VARIABLE: "1"}
    apply_threads(preferences, outside)
    assert outside == {VARIABLE: "1"}
    assert set_outside(outside) == "1"


def test_pytorch_takes_the_threads_of_the_preferences() -> None:
    code = (
        "from app.start.threads import KEY, apply_threads\n"
        "from app.state.preferences import Preferences\n"
        "preferences = Preferences(None)\n"
        "preferences.set(KEY, 1)\n"
        "apply_threads(preferences)\n"
        "import torch\n"
        "print(torch.get_num_threads())\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == "1"
