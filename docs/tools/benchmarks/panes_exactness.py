"""The Compare page's own answer on the default model: is the text in both panes the same?

    python docs/tools/benchmarks/panes_exactness.py [--prompts 20] [--seeds 3] [--tokens 32] [--model …]

Float32, coupled rule, the shipped look-ahead file: plain decoding in pane A, two-call and fused PASS in pane B, at
temperatures 0, 0.8 and 1.2. Every comparison goes through the window's comparison runner and its analysis; one line is
printed per strategy and temperature, and every divergence with its reason.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from PySide6.QtCore import QEventLoop
from PySide6.QtWidgets import QApplication

from app.compare.analysis import Exactness, compare
from app.compare.runner import ComparisonPlan, ComparisonRunner, PaneChoice
from app.prompts import ready_prompts
from app.state.context import AppContext
from app.state.preferences import Preferences
from app.theme.apply import ThemeManager
from pass_core.engine import Engine
from pass_core.models.loading import load_model
from pass_core.models.shipped import default_lookahead
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy

TEMPERATURES = (0.0, 0.8, 1.2)
DRAFTING = (DecodingSettings(strategy=Strategy.TWO_CALL), DecodingSettings(auto=False, k=5))
OPENINGS = (
    "The harbour was quiet when", "def merge_sort(items):\n", "Dear Ms. Alvarez,\n\n", "In 1823 the first",
    "import json\n\n", "Once upon a time a fox", "The recipe needs two cups of", "class Stack:\n    def __init__(self",
    "Physics tells us that light", "for i in range(10):\n", "The committee met on Monday to", "SELECT name FROM",
    "She opened the letter and", "To install the package, run", "The capital of France is", "x = [1, 2, 3]\n",
    "My grandmother always said", "The train left the station at", "A triangle has three", "We hold these truths",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One comparison."""

    prompt: str
    seed: int
    sampling: SamplingSettings
    drafting: DecodingSettings


def cases(prompts: int, seeds: int) -> Iterator[Case]:
    texts = ([p.text for p in ready_prompts() if p.kind != "chat"] + list(OPENINGS))[:prompts]
    for drafting in DRAFTING:
        for temperature in TEMPERATURES:
            for text in texts:
                for seed in range(seeds):
                    yield Case(text, seed, SamplingSettings(temperature, 10), drafting)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    a = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = QApplication(sys.argv[:1])
    context = AppContext(Preferences(None), ThemeManager(app))
    model = load_model(a.model, device="cpu", dtype="float32")
    context.set_engine(Engine(model))
    lookahead = default_lookahead(model)
    runner = ComparisonRunner(context)
    loop = QEventLoop()
    runner.finished.connect(loop.quit)
    print(f"{model.name} {model.fingerprint}, float32, {lookahead.origin.rsplit('/', 1)[-1]}, {a.tokens} tokens each")
    started = time.monotonic()
    counted: dict[tuple[str, float], list[Exactness]] = {}
    for case in cases(a.prompts, a.seeds):
        plan = ComparisonPlan(
            prompt=case.prompt,
            prompt_text=case.prompt,
            chat=False,
            seed=case.seed,
            sampling=case.sampling,
            stop=StopConditions(a.tokens, ignore_eos=True),
            panes=(
                PaneChoice(DecodingSettings(strategy=Strategy.AUTOREGRESSIVE)),
                PaneChoice(case.drafting, lookahead),
            ),
            warm_up=False,
        )
        runner.start(plan)
        loop.exec()
        result = compare(runner.results[0][0], runner.results[1][0])
        counted.setdefault((case.drafting.strategy.value, case.sampling.temperature), []).append(result)
        if not result.identical:
            print(f"  {case.drafting.strategy.value}, temperature {case.sampling.temperature:g}, seed {case.seed}: "
                  f"{result.badge}; {result.candidates}; {result.explanation}", flush=True)  # fmt: skip
    for (strategy, temperature), results in counted.items():
        same = sum(r.identical for r in results)
        print(f"{strategy:<14} temperature {temperature:<4g} identical in {same} of {len(results)} comparisons")
    print(f"{time.monotonic() - started:.0f} s")
    context.shut_down()


if __name__ == "__main__":
    main()
