"""Host work of a step, without a GPU: what the host launches and copies, and how long Python takes for it.

    python docs/tools/gpu/host_work.py [--model MODEL] [--tokens 96] [--row-budget 16] [--k 6] [--rounds 5]

The device is a null device: a text is written once with real passes, whose results are kept; then the same text is
written again, and each graph gives its kept result at once. What is left is the host's own work. Operations that torch
dispatches outside of graphs are counted: on a GPU each is a launch or a copy that the host makes. On a CPU every copy
waits; on a GPU the copy in does not, and the one that brings the record is the step's only wait. `--apart` shows how
steps were done before: a graph for the pass alone, everything else launched one by one (its operations are computed
here by this processor, so its time is none of the host's).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from kernel_count import CountKernels

from pass_core import DecodingSettings, Engine, SamplingSettings, StopConditions, default_lookahead, load_model
from pass_core.decoding.events import StepEvent
from pass_core.kernels.factory import torch_kernels
from pass_core.runtime.cuda_graphs.graphs import Captured, Work
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime
from pass_core.settings import Strategy

PROMPT = "The lighthouse keeper"


class Tape:
    """`Graphs` of a null device: replays compute at first; later each gives what it gave then.

    Attributes:
        playing: whether the kept results are given.
        replays: how many there were since `rewind`.
        kernels: of each graph that was captured (see kernel_count.py).
    """

    name = "null device"

    def __init__(self) -> None:
        self.playing = False
        self.replays = 0
        self.kernels: list[int] = []
        self._results: list[torch.Tensor] = []

    def rewind(self, *, playing: bool) -> None:
        """Keep anew, or give what was kept from the beginning."""
        self.playing, self.replays = playing, 0
        if not playing:
            self._results.clear()

    def capture(self, work: Work) -> Captured:
        with CountKernels() as counter:
            work()
        self.kernels.append(counter.total)

        def replay() -> torch.Tensor:
            self.replays += 1
            if not self.playing:
                self._results.append(work().clone())
            return self._results[self.replays - 1]

        return Captured(replay)


def start(engine: Engine, settings: DecodingSettings, lookahead: Any, tokens: int) -> Iterator[StepEvent]:
    return engine.decode(PROMPT, settings, lookahead=lookahead, stop=StopConditions(tokens, ignore_eos=True), seed=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--row-budget", type=int, default=16)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--apart", action="store_true", help="steps as they were done before, for their counts")
    options = parser.parse_args()

    model = load_model(options.model, device="cpu", dtype=options.dtype)
    tape = Tape()
    kernels = torch_kernels(model)
    if options.apart:
        kernels.device_steps = lambda runtime: None  # type: ignore[assignment, method-assign, return-value]
    engine = Engine(model, runtime=CudaGraphRuntime(model, tape), kernels=kernels)
    print(" ".join(("python", *sys.argv)))
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {model.name}, {model.dtype}")
    print(f"row budget {options.row_budget}, k {options.k}, {options.tokens} tokens\n")
    sampling = SamplingSettings(0.8, 10)
    ways: list[tuple[str, DecodingSettings, Any]] = [
        ("plain", DecodingSettings(Strategy.AUTOREGRESSIVE, sampling=sampling), None),
    ]
    for name in ("embeddings", "best"):
        settings = DecodingSettings(k=options.k, sampling=sampling, auto=False, row_budget=options.row_budget)
        ways.append((name, settings, default_lookahead(model, prefer=name)))
    for name, settings, lookahead in ways:
        tape.kernels.clear()
        tape.rewind(playing=False)
        list(start(engine, settings, lookahead, options.tokens))  # captures
        tape.rewind(playing=False)
        text = [t.id for step in start(engine, settings, lookahead, options.tokens) for t in step.tokens]
        took: list[float] = []
        steps: list[StepEvent] = []
        for _ in range(options.rounds):
            tape.rewind(playing=True)
            run = start(engine, settings, lookahead, options.tokens)
            steps = [next(run)]  # with the prompt, and with a tree that no step before has grown
            started = time.perf_counter()
            steps += run
            took.append((time.perf_counter() - started) / (len(steps) - 1))
            assert [t.id for step in steps for t in step.tokens] == text
        tape.rewind(playing=True)
        stepped: Counter[str] = Counter()
        run = start(engine, settings, lookahead, options.tokens)
        next(run)
        replays, count = tape.replays, 0
        with CountKernels() as counter:
            for _ in run:
                count += 1
        stepped.update(counter.by_name)
        per_step = ", ".join(f"{n / count:.2f} {operation}" for operation, n in stepped.most_common() if n)
        print(f"{name}: {len(text)} tokens in {len(steps)} steps, same text")
        print(f"  kernels of the largest graph: {max(tape.kernels)}")
        print(f"  graphs replayed a step: {(tape.replays - replays) / count:.2f}")
        print(f"  operations a step outside of graphs: {stepped.total() / count:.2f} ({per_step})")
        if not options.apart:
            print(f"  host microseconds a step: {1e6 * min(took):.0f} (median {1e6 * statistics.median(took):.0f})")
    engine.close()


if __name__ == "__main__":
    main()
