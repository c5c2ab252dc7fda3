"""A report on a GPU: same text, milliseconds per token, tokens per call by row budget, memory.

    python docs/tools/gpu/gpu_report.py [--device cuda] [--dtype bfloat16] [--prompts 6] [--tokens 96]

Prints one fact a line, so that the output can be attached to an issue. It runs on any device; on a CPU it only shows
that the program works.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
import transformers
from kernel_count import kernels

from pass_core import (
    DecodingSettings,
    Engine,
    SamplingSettings,
    StopConditions,
    Strategy,
    default_lookahead,
    load_model,
)
from pass_core.decoding.events import StepEvent
from pass_core.evaluation.prompts import BUILT_IN, built_in, prompt_ids
from pass_core.kernels.factory import device_steps
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.memory import freeze_heap
from pass_core.runtime.cuda_graphs.runtime import unsupported_reason

BUDGETS = (8, 16, 24, 32, 48, 64)
_STARTED = time.perf_counter()


def say(*words: object) -> None:
    print(f"[{time.perf_counter() - _STARTED:7.1f} s]", *words, flush=True)


def write(
    engine: Engine, ids: Sequence[int], settings: DecodingSettings, lookahead: LookaheadEmbeddings | None, tokens: int
) -> tuple[list[int], list[StepEvent]]:
    stop = StopConditions(tokens, ignore_eos=True)
    steps = list(engine.decode(ids, settings, lookahead=lookahead, stop=stop, seed=1))
    return [t.id for s in steps for t in s.tokens], steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    options = parser.parse_args()

    say("command", " ".join(sys.argv))
    say("python", platform.python_version(), "torch", torch.__version__, "transformers", transformers.__version__)
    if torch.cuda.is_available():
        say(torch.cuda.get_device_name(), "cuda", torch.version.cuda, "cudnn", torch.backends.cudnn.version())
    engine = Engine(load_model(options.model, device=options.device, dtype=options.dtype))
    model = engine.model
    say("model", model.name, model.fingerprint, model.dtype, model.device)
    files = {name: default_lookahead(model, prefer=name) for name in ("best", "embeddings")}
    if not unsupported_reason(model):
        counts = {name: kernels(model, file, 16).total() for name, file in files.items()}
        say("kernels of a forward pass: plain 1 row", kernels(model, None, 1).total(), counts, "at 16 rows")
    begun = time.perf_counter()
    for file in files.values():
        engine.prepare(file)
    freeze_heap()
    say("prepared in", f"{time.perf_counter() - begun:.1f} s:", engine.runtime.description)
    whole = device_steps(engine.kernels, engine.runtime) is not None
    say("kernels:", engine.kernels.description, "- whole steps in one graph:", whole)
    say("milliseconds a forward pass by rows", {rows: round(1e3 * s, 3) for rows, s in engine.cost.seconds.items()})
    say("trouble with captured calls:", repr(getattr(engine.runtime, "trouble", "")))

    sets = [built_in(name) for name in BUILT_IN]
    prompts = [prompt_ids(p, model) for group in zip(*sets) for p in group][: options.prompts]
    same: Counter[str] = Counter()
    first: list[int] = []
    seconds: dict[str, list[float]] = {}
    for ids in prompts:
        for temperature in (0.0, 0.8):
            sampling = SamplingSettings(temperature, 10)
            plain, steps = write(
                engine, ids, DecodingSettings(Strategy.AUTOREGRESSIVE, sampling=sampling), None, options.tokens
            )
            seconds.setdefault("plain", []).append(sum(s.seconds for s in steps) / len(plain))
            for name, file in files.items():
                text, steps = write(engine, ids, DecodingSettings(k=6, sampling=sampling), file, options.tokens)
                seconds.setdefault(name, []).append(sum(s.seconds for s in steps) / len(text))
                same[f"{name}, temperature {temperature:g}"] += text == plain
                if text != plain:
                    first.append(next(i for i, (a, b) in enumerate(zip(text, plain)) if a != b))
    say("same text as plain decoding, of", len(prompts), dict(same), "first differences at", first)
    say("milliseconds a token, median", {k: round(1e3 * statistics.median(v), 3) for k, v in seconds.items()})
    for budget in (int(b) for b in options.budgets.split(",")):
        tokens = calls = 0
        took = 0.0
        for ids in prompts:
            settings = DecodingSettings(k=6, auto=False, row_budget=budget)
            text, steps = write(engine, ids, settings, files["best"], options.tokens)
            tokens, calls, took = tokens + len(text), calls + len(steps), took + sum(s.seconds for s in steps)
        say(
            "row budget", budget, "tokens a call", round(tokens / calls, 3), "ms a token", round(1e3 * took / tokens, 3)
        )
    if model.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        used = {
            "used": total - free,
            "reserved": torch.cuda.memory_reserved(),
            "allocated": torch.cuda.memory_allocated(),
        }
        say("MiB", json.dumps({k: v >> 20 for k, v in used.items()}))
    engine.close()


if __name__ == "__main__":
    main()
