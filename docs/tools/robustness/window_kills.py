"""kill -9 of the whole window while it generates, compares, trains, converts a GGUF file and writes history.

    PYTHONPATH=. python docs/tools/robustness/window_kills.py --kills 20

The window is the program's own, offscreen, with a home folder of its own. The start after each kill must show no
complaint (banner, log, Qt) and hold every step of a run that the history file had before the kill; a training goes on
at its last checkpoint or later; a conversion is made again and leaves no half-made folder; children end by themselves.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.app.window.window_kills import Kills, states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.monotonic()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as home:
        kills = Kills(Path(home), rng)
        for state in states(arguments.kills, rng):
            print(f"{time.monotonic() - started:6.0f} s: {state}", file=sys.stderr)
            kills.kill(state)
            print(f"    {kills.summary()}", file=sys.stderr)
        kills.last_start()
    print(kills.summary())
    print(f"seed {arguments.seed}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
