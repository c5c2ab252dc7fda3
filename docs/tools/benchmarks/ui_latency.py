"""How alive the window stays while the engine streams: lateness of a 16 ms timer in the GUI thread.

    python docs/tools/benchmarks/ui_latency.py [--model M] [--tokens N] [--output docs/ui_latency.json]

The real window runs (offscreen unless a platform is chosen), first idle, then while the engine writes with each
strategy. A tick that comes x ms after its 16 ms is x ms late; the goal is a 95th percentile under 50 ms.
"""

# ruff: noqa: E402 (Qt must be told to go offscreen before it is imported)

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

import psutil
import torch
from PySide6.QtCore import QElapsedTimer, QObject, Qt, QTimer
from PySide6.QtWidgets import QApplication
from qasync import QEventLoop

from app.state.context import AppContext
from app.state.loader import Loader, ModelChoice
from app.state.preferences import Preferences
from app.theme.apply import ThemeManager, ThemeMode
from app.widgets.log import LogKeeper
from app.window import MainWindow
from pass_core.settings import Strategy

INTERVAL_MS = 16
IDLE_SECONDS = 3.0


class Ticker(QObject):
    """Records how late each tick of a precise timer is."""

    def __init__(self) -> None:
        super().__init__()
        self.late_ms: list[float] = []
        self._clock = QElapsedTimer()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self._tick)

    def start(self) -> None:
        self.late_ms = []
        self._clock.start()
        self._timer.start()

    def stop(self) -> dict[str, float]:
        self._timer.stop()
        late = sorted(self.late_ms)
        at = lambda share: late[min(len(late) - 1, int(share * len(late)))]  # noqa: E731
        return {
            "ticks": len(late),
            "p50_ms": round(at(0.50), 2),
            "p95_ms": round(at(0.95), 2),
            "p99_ms": round(at(0.99), 2),
            "max_ms": round(late[-1], 2),
        }

    def _tick(self) -> None:
        self.late_ms.append(max(0.0, self._clock.nsecsElapsed() / 1e6 - INTERVAL_MS))
        self._clock.restart()


async def until(signal: object, accept: object = None) -> None:
    """Wait for a Qt signal."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def received(*arguments: object) -> None:
        if not future.done() and (accept is None or accept(*arguments)):  # type: ignore[operator]
            future.set_result(None)

    signal.connect(received)  # type: ignore[attr-defined]
    await future


async def measure(window: MainWindow, context: AppContext, tokens: int) -> list[dict[str, object]]:
    ticker, rows = Ticker(), []
    ticker.start()
    await asyncio.sleep(IDLE_SECONDS)
    rows.append({"doing": "idle", **ticker.stop()})
    controls = window.generate.controls
    controls.length.spin.setValue(tokens)
    controls.ignore_eos.setChecked(True)
    for warm in (True, False):
        for strategy in Strategy:
            controls.strategy.set_value(strategy.value)
            if warm:
                controls.length.spin.setValue(16)
            else:
                controls.length.spin.setValue(tokens)
            ticker.start()
            began = time.perf_counter()
            window.generate.run()
            await until(context.session.run_finished)
            figures = ticker.stop()
            print(f"{strategy.value}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
            if not warm:
                summary = {"tokens_per_second": round(tokens / (time.perf_counter() - began), 1)}
                rows.append({"doing": f"streaming, {strategy.value}", **figures, **summary})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    app = QApplication([])
    app.setQuitOnLastWindowClosed(False)
    with QEventLoop(app) as loop:
        asyncio.set_event_loop(loop)
        theme = ThemeManager(app, ThemeMode.LIGHT)
        context = AppContext(Preferences(None), theme)
        loader = Loader(context)
        window = MainWindow(context, loader, LogKeeper())
        window.show()

        async def work() -> list[dict[str, object]]:
            loader.load(ModelChoice(arguments.model))
            await until(context.lookahead_changed, lambda value: value is not None)
            rows = await measure(window, context, arguments.tokens)
            closed = asyncio.ensure_future(until(window.closed))
            await asyncio.sleep(0)  # let it connect
            window.close()
            await closed
            return rows

        rows = loop.run_until_complete(work())
    result = {
        "interval_ms": INTERVAL_MS,
        "tokens": arguments.tokens,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "cpu_cores": psutil.cpu_count(),
        "load_average_at_end": [round(x, 1) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "rows": rows,
    }
    head = f"{'':28} {'ticks':>6} {'p50':>7} {'p95':>7} {'p99':>7} {'max':>7}  tokens/s"
    print(head)
    for row in rows:
        figures = "".join(f"{row[k]:>8}" for k in ("p50_ms", "p95_ms", "p99_ms", "max_ms"))
        print(f"{row['doing']:28} {row['ticks']:>6}{figures}  {row.get('tokens_per_second', '')}")
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
