"""An hour of random work in the real window: texts, comparisons, training, other models, every button; memory kept.

    python docs/tools/robustness/soak.py --home /tmp/soak-home [--minutes 60] [--other DIR]… [--curve docs/soak]

The window is a person's: it writes its history, its settings and its files, all below the folder `--home`. Every ten
seconds the memory (RSS), threads and open files go into CURVE.csv, from which CURVE.svg is drawn. Fails (exit code 1)
on a Qt warning, an error in the log or an exception. See docs/tools/random_driver.py for the rest.
"""

# ruff: noqa: E402 (folders must be known before the window's modules are imported)

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--home", type=Path, required=True)
parser.add_argument("--minutes", type=float, default=60.0)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--other", action="append", default=[], help="a model folder to change to and back")
parser.add_argument("--curve", type=Path, default=Path("soak"))
if __name__ == "__main__":
    given = parser.parse_args()
    for name, folder in (("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "config"), ("HOME", "home")):
        (given.home / folder).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str((given.home / folder).resolve())

import psutil
from random_driver import Driver, Watch, in_window, report

from app.application import Program
from app.state.loader import ModelChoice
from app.training.page import TrainPage

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 760, 300, 64, 44, 40


class Soak(Driver):
    """The random driver with nothing left alone but the end of the window."""

    left_alone = ("Quit",)

    def __init__(self, program: Program, seed: int, watch: Watch, others: Sequence[str], curve: Path) -> None:
        super().__init__(program, seed, watch)
        self.loader = program.loader
        self.sources: list[str | None] = [None, *others]
        self.file = curve.with_suffix(".csv").open("w", newline="", encoding="utf-8")
        self.table = csv.writer(self.file)
        self.table.writerow(["seconds", "rss_mb", "threads", "files", "model"])

    def seldom(self) -> tuple[Callable[[], None], ...]:
        if self.context.model is None and not self.loader.loading:
            return (self.load,)
        return (*super().seldom(), self.run, self.load, self.unload, self.train, self.stop, self.stop)

    def load(self) -> None:
        """One of the models."""
        self.loader.load(ModelChoice(self.random.choice(self.sources)))

    def unload(self) -> None:
        """Free the model; something else loads one again."""
        self.loader.unload()
        if self.random.random() < 0.8:
            self.load()

    def train(self) -> None:
        """Begin a training, or go on with the one that was stopped."""
        page = self.window.page("train")
        assert isinstance(page, TrainPage)
        if page.unfinished() is not None and self.random.random() < 0.5:
            page.resume()
        else:
            page.start()

    def stop(self) -> None:
        """Stop what is being done."""
        self.context.session.stop()
        self.context.jobs.cancel_all()

    def sampled(self, process: psutil.Process) -> None:
        seconds, rss = self.memory[-1]
        model = self.context.model
        self.table.writerow(
            [f"{seconds:.0f}", f"{rss:.1f}", process.num_threads(), process.num_fds(), model.name if model else ""]
        )
        self.file.flush()


def draw(memory: Sequence[tuple[float, float]]) -> str:
    """The memory over time, as SVG."""
    longest, top = max(t for t, _ in memory) or 1.0, 500 * (1 + max(m for _, m in memory) // 500)

    def place(seconds: float, used: float) -> str:
        x = LEFT + seconds / longest * (WIDTH - LEFT - 20)
        return f"{x:.1f},{HEIGHT - BOTTOM - used / top * (HEIGHT - BOTTOM - TOP):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12" fill="#333333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="14">Memory of the window (RSS, MB) over {longest / 60:.0f} minutes</text>',
    ]
    for n in range(5):
        x, y = place(longest * n / 4, top * n / 4).split(",")
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{top * n / 4:.0f}</text>')
        parts.append(f'<text x="{x}" y="{HEIGHT - 24}" text-anchor="middle">{longest * n / 4 / 60:.0f} min</text>')
    points = " ".join(place(t, m) for t, m in memory)
    parts.append(f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="1.5"/></svg>')
    return "\n".join(parts) + "\n"


def main() -> int:
    """Drive, draw, report."""
    words = ["--new-window", "--max-new-tokens", "48"]
    soak = in_window(
        words, lambda program, watch: Soak(program, given.seed, watch, given.other, given.curve), given.minutes
    )
    soak.file.close()
    given.curve.with_suffix(".svg").write_text(draw(soak.memory), encoding="utf-8")
    text = report(soak, soak.watch, given.minutes, given.seed, "default, changing")
    print(text)
    given.curve.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
    return 1 if soak.watch.problems else 0


if __name__ == "__main__":
    sys.exit(main())
