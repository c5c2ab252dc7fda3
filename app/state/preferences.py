"""What is remembered between starts; a broken or unwritable file never hurts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar, cast

from PySide6.QtCore import QByteArray, QSettings

T = TypeVar("T")


class Preferences:
    """JSON values in a QSettings file; a value of another type than the default's counts as absent.

    Args:
        path: an INI file; None remembers nothing (used when the window runs without a hand).
    """

    def __init__(self, path: Path | None) -> None:
        self._settings = QSettings(str(path), QSettings.Format.IniFormat) if path is not None else None
        self._memory: dict[str, Any] = {}

    @property
    def remembers(self) -> bool:
        """Whether anything outlives this start."""
        return self._settings is not None

    def get(self, key: str, default: T) -> T:
        """The remembered value of `key`, or `default` where it is missing, damaged or of another type."""
        if key in self._memory:
            value = self._memory[key]
        elif self._settings is not None and isinstance(raw := self._settings.value(key), str):
            try:
                value = json.loads(raw)
            except ValueError:
                return default
        else:
            return default
        if isinstance(default, float) and isinstance(value, int):
            value = float(value)
        fits = default is None or type(value) is type(default)
        return cast(T, value) if fits else default

    def set(self, key: str, value: object) -> None:
        """Remember a JSON value."""
        self._memory[key] = value
        if self._settings is not None:
            self._settings.setValue(key, json.dumps(value))

    def get_bytes(self, key: str) -> QByteArray:
        """Remembered bytes (window geometry), empty when absent or damaged."""
        return QByteArray.fromBase64(self.get(key, "").encode("ascii", "ignore"))

    def set_bytes(self, key: str, value: QByteArray) -> None:
        """Remember bytes."""
        self.set(key, bytes(value.toBase64().data()).decode("ascii"))

    def save(self) -> None:
        """Write to disk now."""
        if self._settings is not None:
            self._settings.sync()
