"""Signals may be emitted as often as anyone likes, on every Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EMIT = """
import {module}
from PySide6.QtCore import QObject, Signal

class Source(QObject):
    fired = Signal(int)

source = Source()
for number in range(300_000):
    source.fired.emit(number)
print("alive")
"""


def test_many_emits_do_not_end_the_interpreter() -> None:
    script = EMIT.format(module="app")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False
    )
    assert done.stdout.strip() == "alive", done.stderr
