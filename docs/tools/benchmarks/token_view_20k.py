"""20,000 tokens in a pane: what appending, scrolling, hovering and replaying cost the GUI thread.

    python docs/tools/benchmarks/token_view_20k.py

Runs offscreen by itself where there is no display. Every figure is processor time of the GUI thread: a frame at
60 Hz has 16.7 ms. Tokens come as the window gets them, batched every 33 ms; the text is a made-up run in which every
provenance occurs, with rejected drafts shown beside their corrections.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QApplication

from app.inspector.viewer import RunViewer
from app.theme.apply import ThemeManager, ThemeMode
from app.widgets.token_view import TokenView
from pass_core.decoding.events import (
    Candidate,
    DraftNode,
    DraftSource,
    DraftStatus,
    Provenance,
    StepEvent,
    TokenEvent,
)
from pass_core.records.environment import processor_name
from pass_core.settings import DecodingSettings

TOKENS = 20_000
BATCH_STEPS = 4
WORDS = """the lighthouse keeper had not spoken to another person in eleven weeks , and · naïve 海 🙂 said .""".split()  # noqa: SIM905


def made_up_run(tokens: int) -> list[StepEvent]:
    """Steps of one to four tokens with eight candidates each and a small tree of drafts."""
    random.seed(0)
    settings = DecodingSettings()
    steps: list[StepEvent] = []
    count = 0
    while count < tokens:
        accepted = random.choice((0, 0, 1, 1, 2, 3))
        out: list[TokenEvent] = []
        drafts: list[DraftNode] = []
        for depth in range(1, accepted + 2):
            word = ("\n" if random.random() < 0.01 else " ") + random.choice(WORDS)
            kept = depth <= accepted
            last = Provenance.BONUS if accepted == 3 else Provenance.CORRECTED
            out.append(
                TokenEvent(
                    index=count,
                    id=count % 49_000,
                    bytes=word.encode(),
                    text=word,
                    provenance=Provenance.ACCEPTED if kept else last,
                    draft_position=depth if kept or last is Provenance.CORRECTED else None,
                    p_target=0.5,
                    p_draft=0.4,
                    source=DraftSource.LOOKAHEAD if kept else None,
                    top=tuple(Candidate(i, f" {WORDS[i]}", 0.5 / (i + 1), 0.4 / (i + 1), 0.1 * i) for i in range(8)),
                )
            )
            if kept or last is Provenance.CORRECTED:
                status = DraftStatus.ACCEPTED if kept else DraftStatus.REJECTED
                parent = depth - 2 if depth > 1 else None
                drafts.append(
                    DraftNode(depth - 1, parent, depth, 7, " draft", 0.2, 0.3, 0.5, None, DraftSource.LOOKAHEAD, status)
                )
            count += 1
        steps.append(
            StepEvent(len(steps), tuple(out), tuple(drafts), 1, (9,), 4, 0.03, 0.025, settings, 40 + count, "3 pay")
        )
    return steps


def report(name: str, seconds: list[float], unit: str = "") -> None:
    """One line: median, 95th percentile, worst."""
    ms = sorted(1000 * s for s in seconds)
    p95 = ms[int(0.95 * (len(ms) - 1))]
    print(f"{name:<44} {statistics.median(ms):8.2f} {p95:8.2f} {ms[-1]:8.2f}   {len(ms):6d} {unit}")


def timed(work: Callable[[], object]) -> float:
    """Processor seconds of this thread for the work and its painting (others on the machine do not count)."""
    started = time.thread_time()
    work()
    QApplication.processEvents()
    return time.thread_time() - started


def hover(view: TokenView, point: QPoint) -> None:
    """Move the mouse over a place of the text, as Qt delivers it."""
    place = QPointF(point)
    event = QMouseEvent(
        QEvent.Type.MouseMove,
        place,
        QPointF(view.viewport().mapToGlobal(point)),
        Qt.MouseButton.NoButton,
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
    )
    QApplication.sendEvent(view.viewport(), event)


def main() -> None:
    app = QApplication(sys.argv[:1])
    theme = ThemeManager(app, ThemeMode.LIGHT)
    steps = made_up_run(TOKENS)
    tokens = sum(len(s.tokens) for s in steps)
    print(f"{tokens} tokens in {len(steps)} steps, {BATCH_STEPS} steps a batch")
    versions = f"Python {platform.python_version()}, PySide6 {version('PySide6')}"
    print(f"{versions}, platform {app.platformName()}, {processor_name()}")
    print()
    print(f"{'milliseconds of the GUI thread':<44} {'median':>8} {'95 %':>8} {'worst':>8}   {'times':>6}")

    view = TokenView(theme)
    view.set_ghosts(True)
    view.resize(560, 560)
    view.show()
    view.start("A prompt.")
    QApplication.processEvents()
    batches = [steps[i : i + BATCH_STEPS] for i in range(0, len(steps), BATCH_STEPS)]
    times = [timed(lambda b=b: view.append_steps(b)) for b in batches]
    report("append a batch, first 2,000 tokens", times[: len(times) // 10])
    report("append a batch, last 2,000 tokens", times[-len(times) // 10 :])

    bar = view.verticalScrollBar()
    bar.setValue(0)
    places = [round(i * bar.maximum() / 400) for i in range(400)]
    report("scroll to a place, and paint", [timed(lambda p=p: bar.setValue(p)) for p in places])
    report("scroll by one line, and paint", [timed(lambda: bar.setValue(bar.value() - 1)) for _ in range(400)])

    random.seed(1)
    area = view.viewport().rect()
    points = [QPoint(random.randrange(area.width()), random.randrange(area.height())) for _ in range(400)]
    report("hover another token, and paint", [timed(lambda p=p: hover(view, p)) for p in points])
    report("hover card of a token", [timed(lambda i=i: view.show_card_for(i)) for i in range(0, tokens, tokens // 200)])
    view.close()

    viewer = RunViewer(theme)
    viewer.resize(1200, 720)
    viewer.show()
    QApplication.processEvents()
    report("open the whole run to inspect and replay", [timed(lambda: viewer.show_run("A prompt.", steps))])
    middle = range(tokens // 2, tokens // 2 + 100)
    report(
        "replay: back by one token or far",
        [timed(lambda i=i: viewer.replay.seek(i)) for i in [*middle][:3][::-1]],
    )
    report("replay: one token forward", [timed(lambda i=i: viewer.replay.seek(i)) for i in middle])
    report("inspect a token far back", [timed(lambda i=i: viewer.inspect_token(i)) for i in range(0, 4000, 40)])
    viewer.close()


if __name__ == "__main__":
    main()
