"""What a decoding step costs besides the model's calls: milliseconds of the host between them.

    python docs/tools/benchmarks/step_host_time.py --dtype bfloat16 --rows 16

The default model writes `--tokens` tokens for each of some prompts, with its default look-ahead file. A step's host
time is its whole time less the time inside the runtime's forward calls and logits: growing the tree, choosing the
call's shape, walking, and describing the step. Printed: the median and the lower quartile over all steps, plain and
PASS. `--kernels torch` forces the kernels in torch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from pass_core.engine import Engine
from pass_core.models.loading import load_model
from pass_core.models.shipped import default_lookahead
from pass_core.runtime.factory import make_runtime
from pass_core.settings import DecodingSettings, StopConditions, Strategy

PROMPTS = (
    "The history of the lighthouse begins",
    "def quicksort(numbers):",
    "Once upon a time there was a fox who",
    "To make good bread you need",
)


class Watch:
    """Times a runtime's forward calls and logits, in its place: the engine sees the runtime that it knows."""

    def __init__(self, runtime: Any) -> None:
        self.seconds = 0.0
        for name in ("forward", "logits"):
            setattr(runtime, name, self._timed(runtime, getattr(runtime, name)))

    def _timed(self, runtime: Any, call: Any) -> Any:
        def timed(*arguments: Any) -> Any:
            runtime.synchronize()
            started = time.perf_counter()
            out = call(*arguments)
            runtime.synchronize()
            self.seconds += time.perf_counter() - started
            return out

        return timed


def host_times(engine: Engine, watch: Watch, settings: DecodingSettings, lookahead: Any, tokens: int) -> list[float]:
    """Milliseconds of each step but the first of a text."""
    out: list[float] = []
    for prompt in PROMPTS:
        watch.seconds = 0.0
        stop = StopConditions(tokens, ignore_eos=True)
        for index, step in enumerate(engine.decode(prompt, settings, lookahead=lookahead, stop=stop)):
            if index:
                out.append(1e3 * (step.seconds - watch.seconds))
            watch.seconds = 0.0
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=16, help="row budget of a call")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--kernels", choices=("chosen", "torch"), default="chosen")
    chosen = parser.parse_args()
    model = load_model(device=chosen.device, dtype=chosen.dtype)
    runtime = make_runtime(model)
    watch = Watch(runtime)
    parts: dict[str, Any] = {}
    if chosen.kernels == "torch":
        from pass_core.kernels.reference import ReferenceKernels

        parts["kernels"] = ReferenceKernels(model)
    engine = Engine(model, runtime=runtime, **parts)
    lookahead = default_lookahead(model)
    print(f"{runtime.description}, {chosen.kernels} kernels, {chosen.rows} rows, {len(PROMPTS)} prompts")
    for name, settings in (
        ("plain", DecodingSettings(Strategy.AUTOREGRESSIVE)),
        ("PASS", DecodingSettings(auto=False, row_budget=chosen.rows)),
    ):
        host_times(engine, watch, settings, lookahead, 8)
        times = host_times(engine, watch, settings, lookahead, chosen.tokens)
        quarter = statistics.quantiles(times, n=4)[0]
        print(f"{name:6} {statistics.median(times):6.3f} ms median, {quarter:6.3f} lower quartile, {len(times)} steps")


if __name__ == "__main__":
    main()
