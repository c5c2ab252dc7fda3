"""How fast texts appear in the window, against the same texts written without one.

    python docs/tools/benchmarks/window_speed.py [--rounds N] [--tokens N] [--model M]

The real window is open all the time (offscreen unless a platform is chosen). In turn the Generate page writes a text,
and the engine thread writes the same text for nobody, as the command line does. Both times are from the start to the
last token, prompt included, by one clock; the table has the median of each and the median of their ratios.
"""

# ruff: noqa: E402 (Qt must be told to go offscreen before it is imported)

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "tools")]

import drive

from app.application import Program
from app.engine.jobs import JobControl
from pass_core.settings import StopConditions, Strategy

PROMPT = "The history of the steam engine begins with"


async def one_round(program: Program, strategy: Strategy, tokens: int, seed: int) -> tuple[float, float]:
    """(seconds in the window, seconds without it) of one text."""
    page, context = program.window.generate, program.context
    controls = page.controls
    controls.strategy.set_value(strategy.value)
    controls.length.spin.setValue(tokens)
    controls.ignore_eos.setChecked(True)
    controls.seed_field.setValue(seed)
    ended: list[float] = []
    connection = context.session.run_finished.connect(lambda *_: ended.append(time.perf_counter()))
    began = time.perf_counter()
    page.run()
    await drive.until(lambda: ended)
    context.session.run_finished.disconnect(connection)
    run = page._run
    engine, settings, lookahead = context.engine, context.session.settings, context.lookahead
    assert run is not None
    assert engine is not None

    def alone(_: JobControl) -> tuple[float, str]:
        started = time.perf_counter()
        stop = StopConditions(tokens, ignore_eos=True)
        steps = engine.decode(run.request.prompt, settings, lookahead=lookahead, stop=stop, seed=seed)
        text = "".join(token.text for step in steps for token in step.tokens)
        return time.perf_counter() - started, text

    seconds, text = await context.jobs.start("the same text without the window", alone).result()
    assert text == run.text, "two texts"
    return ended[0] - began, seconds


async def measure(program: Program, rounds: int, tokens: int) -> None:
    await drive.until(lambda: program.context.lookahead is not None)
    program.window.generate.prompt.set_text(PROMPT)
    print(f"{platform.machine()}, {os.cpu_count()} processors, {tokens} tokens, {rounds} rounds after one to warm up")
    for strategy in (Strategy.AUTOREGRESSIVE, Strategy.FUSED):
        pairs = [await one_round(program, strategy, tokens, seed) for seed in range(rounds + 1)][1:]
        window, alone = (tokens / statistics.median(side) for side in zip(*pairs))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"{strategy.value:16} window {window:6.1f} tokens/s, without {alone:6.1f}, ratio {ratio:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    words = ["--exit-after-run", *(["--model", arguments.model] if arguments.model else [])]
    drive.in_window(words, lambda program: measure(program, arguments.rounds, arguments.tokens))


if __name__ == "__main__":
    main()
