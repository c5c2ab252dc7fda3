"""kill -9 of the whole window: the next start is clean, and nothing that was committed is gone."""

from __future__ import annotations

import random
from pathlib import Path

from tests.app.window.window_kills import Kills


def test_a_window_killed_while_it_generates(tmp_path: Path) -> None:
    kills = Kills(tmp_path, random.Random(3))
    kills.kill("generate")
    assert sum(kills.committed.values()) > 0
    kills.last_start()
