"""Icons come from one font alone."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import time
from PySide6.QtGui import QFontDatabase
from PySide6.QtWidgets import QApplication
application = QApplication([])
before = set(QFontDatabase.families())
from app.theme.icons import icon
from app.theme.roles import LIGHT
started = time.perf_counter()
assert not icon("ph.play", LIGHT).pixmap(16).toImage().allGray()
print(sorted(set(QFontDatabase.families()) - before), round(time.perf_counter() - started, 3))
"""


def test_no_other_icon_font_is_loaded() -> None:
    """Qt looks for missing letters in every font that is loaded."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split("]")[0] == "['Phosphor'"
