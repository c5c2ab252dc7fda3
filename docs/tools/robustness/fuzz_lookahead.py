"""Loads thousands of mutated look-ahead files: each must load rightly or be refused with a LookaheadError.

    PYTHONPATH=. python docs/tools/robustness/fuzz_lookahead.py --files 20000 --seed 1

Prints the counts by outcome and the peak of the process's memory; ends with 1 if anything else came out of the loader.
The files of a seed are always the same; `--first N --files 1` makes one of them again.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from pass_core.lookahead.errors import LookaheadError
from pass_core.lookahead.format import load_lookahead
from tests.core.lookahead.mutations import write_mutated
from tests.core.lookahead.test_hostile_files import sound


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # torch's, about odd pickles
    outcomes: Counter[str] = Counter()
    escaped = 0
    slowest = 0.0
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.first, arguments.first + arguments.files):
            path = write_mutated(Path(folder), number, arguments.seed)
            began = time.perf_counter()
            try:
                sound(load_lookahead(path))
                outcomes["loaded"] += 1
            except LookaheadError as error:
                outcomes[type(error).__name__] += 1
            except Exception:
                escaped += 1
                print(f"file {number} ({path.suffix}):")
                traceback.print_exc()
            slowest = max(slowest, time.perf_counter() - began)
            path.unlink()
    print(
        f"{arguments.files} files of seed {arguments.seed} in {time.perf_counter() - started:.0f} s, escaped: {escaped}"
    )
    print(", ".join(f"{name} {count}" for name, count in outcomes.most_common()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"slowest file {slowest:.2f} s; peak memory of the process {peak:.0f} MB")
    return int(escaped > 0)


if __name__ == "__main__":
    raise SystemExit(main())
