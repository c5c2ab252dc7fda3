"""The settings file's place: a folder that others may write to, or that cannot be made, never stops the window."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.application import settings_path
from app.state.preferences import Preferences


def test_a_missing_folder_below_one_that_others_may_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(shared / "config"))
    first = Preferences(settings_path())
    first.set("a/number", 3)
    first.save()
    assert Preferences(settings_path()).get("a/number", 0) == 3


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("a file")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    nowhere = Preferences(settings_path())
    nowhere.set("a/number", 3)
    nowhere.save()
    assert nowhere.get("a/number", 0) == 3
