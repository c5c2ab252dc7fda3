"""A process killed while it writes the history loses nothing that was committed, and the next start is clean."""

from __future__ import annotations

import random
from pathlib import Path

from tests.app.history.killed import kill_history


def test_three_kills_in_the_middle_of_writing(tmp_path: Path) -> None:
    rng = random.Random(5)
    for number in range(3):
        assert kill_history(tmp_path / "history.sqlite3", number, rng) > 0
