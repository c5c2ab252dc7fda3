"""Loads a model, writes a few tokens and frees it again, 50 times; the memory after each round.

    PYTHONPATH=. python docs/tools/robustness/loads.py [--rounds 50] [--model DIR] [--csv docs/loads.csv]

Columns: the round, resident memory (RSS), huge pages of it and, on CUDA, the device's memory, all in MB, with nothing
loaded.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import psutil
import torch

from pass_core.engine import Engine
from pass_core.models.loading import load_model
from pass_core.models.shipped import default_lookahead
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy


def huge_pages() -> float:
    """Transparent huge pages of this process, MB; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages")) / 1024


def one_round(source: str | None) -> None:
    model = load_model(source)
    engine = Engine(model)
    engine.prepare()
    settings = DecodingSettings(Strategy.FUSED, sampling=SamplingSettings(0.8, 10))
    ids = list(range(20, 40))
    written = sum(len(s.tokens) for s in engine.decode(ids, settings, lookahead=default_lookahead(model),
                                                       stop=StopConditions(12, ignore_eos=True)))  # fmt: skip
    assert written == 12
    engine.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--model")
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    process, rows = psutil.Process(), list[tuple[int, str, str, str]]()
    for number in range(1, given.rounds + 1):
        one_round(given.model)
        device = torch.cuda.memory_reserved() / 1e6 if torch.cuda.is_available() else 0.0
        rows.append((number, f"{process.memory_info().rss / 1e6:.1f}", f"{huge_pages():.1f}", f"{device:.1f}"))
        print(*rows[-1], flush=True)
    if given.csv is not None:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("round", "rss_mb", "huge_pages_mb", "device_mb"), *rows])
    settled = [float(r[1]) for r in rows[len(rows) // 5 :]]
    print(f"after round {len(rows) // 5 + 1}: {settled[0]:.0f} MB, after round {len(rows)}: {settled[-1]:.0f} MB, "
          f"between them {min(settled):.0f} to {max(settled):.0f} MB")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
