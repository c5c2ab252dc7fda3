"""What a call of 1 to 24 rows costs the compiled CPU library, for every format of weights and instruction set.

    python docs/tools/benchmarks/native_call_cost.py --isa avx2 avx512bf16 --rounds 30

The default model with its own weights (4-bit ones as its GGUF file has them), over `--context` cached tokens. For each
number of rows: milliseconds of the layers, of the lm_head on all rows, and of both, as the median and the
fastest round. Memory's floor is the bytes of packed weights over the best bandwidth that the library measured
meanwhile; "a row more" is what each row beyond twelve adds, which is arithmetic alone. Rounds go over all formats and
numbers of rows in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from pass_core.models.gguf_blocks import GgufBlocks
from pass_core.models.language_model import LanguageModel
from pass_core.models.loading import load_model
from pass_core.runtime.native import runtime as native
from pass_core.runtime.native.build import find, folders
from pass_core.runtime.native.compiler import instruction_sets
from pass_core.runtime.native.runtime import NativeRuntime
from pass_core.runtime.rows import Rows, RowsBuilder, chain_rows

BUFFER = 64 * 2**20  # float32 numbers
KINDS = ("float32", "bfloat16", "int8-16", "int8-8", "gguf-16", "gguf-8")  # weights and bits of rows
WARM_UP = 2


def tree(rows: int) -> Rows:
    """A root with one child below it for each further row."""
    out = RowsBuilder()
    root = out.add_token(1)
    for i in range(rows - 1):
        out.add_token(5 + i, root)
    return out.build()


def made(model: LanguageModel, kind: str, threads: int) -> NativeRuntime:
    weights, _, bits = kind.partition("-")
    blocks = None
    if weights == "gguf":
        assert model.gguf is not None
        blocks = GgufBlocks(model.gguf)
    return NativeRuntime(model, threads, weights=weights, blocks=blocks, bits=int(bits or 16))  # type: ignore[arg-type]


def measure(model: LanguageModel, kinds: list[str], rows: list[int], options: argparse.Namespace) -> None:
    runtimes = {kind: made(model, kind, options.threads) for kind in kinds}
    caches = {}
    for kind, runtime in runtimes.items():
        caches[kind] = runtime.new_cache(options.context + max(rows) + 1)
        runtime.forward(caches[kind], chain_rows(np.arange(options.context) % 1000))
        caches[kind].commit(range(options.context))
    shapes = {n: tree(n) for n in rows}
    buffer, reader, best = torch.ones(BUFFER), next(iter(runtimes.values())), 0.0
    seconds: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for turn in range(options.rounds + WARM_UP):
        begun = time.perf_counter()
        reader.read(buffer)
        best = max(best, buffer.numel() * 4 / (time.perf_counter() - begun))
        for kind, runtime in runtimes.items():
            for n, shape in shapes.items():
                begun = time.perf_counter()
                hidden = runtime.forward(caches[kind], shape)
                between = time.perf_counter()
                runtime.logits(hidden)
                if turn >= WARM_UP:
                    seconds.setdefault((kind, n), []).append((between - begun, time.perf_counter() - between))
    print(f"\n{reader.isa}: {options.threads} threads, {best / 1e9:.1f} GB/s at best, {options.rounds} rounds")
    for kind, runtime in runtimes.items():
        floor = runtime.weight_bytes / best
        calls = {n: [sum(s) for s in seconds[kind, n]] for n in rows}
        fastest = {n: min(c) for n, c in calls.items()}
        many = [n for n in rows if n >= 12]
        more = (fastest[many[-1]] - fastest[many[0]]) / (many[-1] - many[0]) if len(many) > 1 else 0.0
        print(f"{runtime.description}: {runtime.weight_bytes / 1e6:.0f} MB, floor {1e3 * floor:.2f} ms, ", end="")
        print(f"a row more {1e3 * more:.2f} ms")
        print(f"{'rows':>6s} {'layers':>8s} {'head':>7s} {'call':>8s} {'fastest':>8s}")
        for n in rows:
            layers, head = (statistics.median(part) for part in zip(*seconds[kind, n]))
            call = statistics.median(calls[n])
            print(f"{n:6d} {1e3 * layers:8.2f} {1e3 * head:7.2f} {1e3 * call:8.2f} {1e3 * fastest[n]:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built = [one.name for one in instruction_sets() if find(one.name, folders()).library is not None]
    parser.add_argument("--isa", nargs="*", default=built, choices=built, help="by default all that are built")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS, help="weights and bits of rows")
    parser.add_argument("--rows", default="1,2,3,4,6,8,12,16,24", help="numbers of rows, with commas")
    parser.add_argument("--context", type=int, default=128, help="tokens in the cache")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    rows = [int(n) for n in options.rows.split(",")]
    model = load_model(device="cpu", dtype="bfloat16")
    for isa in options.isa:
        chosen = find(isa, folders()).library
        native.library = lambda chosen=chosen: chosen
        measure(model, options.kinds, rows, options)


if __name__ == "__main__":
    main()
