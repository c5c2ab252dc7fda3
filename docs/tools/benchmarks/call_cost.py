"""The cost of one call by its rows, for a model of any shape with random weights, on any device.

    python docs/tools/benchmarks/call_cost.py --preset llama-7b --device cuda --dtype bfloat16

COST ONLY, RANDOM WEIGHTS: the times are those of a trained model of this shape; what it would write means nothing.

For each number of rows: milliseconds of the layers over `--context` cached tokens, of the lm_head on all rows,
and of both; then the share of the floor that the call reaches, where the floor is the bytes of the weights that one
call must read over the measured bandwidth of the memory that holds them (1.00 = no call can be faster). Rounds go over
all numbers of rows in turn; the median of a size is printed, the fastest beside it. `--eager` measures the same without
captured calls.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np
import torch
import transformers

from pass_core.evaluation.speed.roofline import call_bytes, memory_bandwidth
from pass_core.models.capabilities import examine
from pass_core.models.device import choose_device, choose_dtype
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Runtime
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime
from pass_core.runtime.factory import make_runtime
from pass_core.runtime.rows import Rows, RowsBuilder, chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime

# hidden, inner, layers, heads, KV heads, vocabulary
PRESETS = {
    "tiny": (128, 352, 4, 4, 2, 1024),
    "smollm2-135m": (576, 1536, 30, 9, 3, 49152),
    "llama-1b": (2048, 8192, 16, 32, 8, 128256),
    "llama-7b": (4096, 11008, 32, 32, 32, 32000),
    "llama-8b": (4096, 14336, 32, 32, 8, 128256),
}
SHAPE = ("hidden", "inner", "layers", "heads", "kv_heads", "vocabulary")


def random_model(shape: dict[str, int], device: torch.device, dtype: torch.dtype, context: int) -> LanguageModel:
    """A Llama of this shape, its weights drawn on the device."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=shape["hidden"],
        intermediate_size=shape["inner"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        vocab_size=shape["vocabulary"],
        max_position_embeddings=context,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(default)
    model.eval()
    model.requires_grad_(False)
    return LanguageModel("random weights", "", model, None, examine(config), "random")


def tree(rows: int, vocabulary: int) -> Rows:
    """A root with one child below it for each further row."""
    out = RowsBuilder()
    root = out.add_token(1)
    for i in range(rows - 1):
        out.add_token(i % vocabulary, root)
    return out.build()


def measure(
    runtime: Runtime, shapes: dict[int, Rows], context: int, rounds: int, vocabulary: int
) -> dict[int, list[tuple[float, float]]]:
    """For each number of rows, seconds of the layers and of the head in each round."""
    cache = runtime.new_cache(context + max(shapes) + 1)
    for begin in range(0, context, 256):
        chunk = np.arange(begin, min(begin + 256, context)) % vocabulary
        runtime.forward(cache, chain_rows(chunk))
        cache.commit(range(chunk.size))
    seconds: dict[int, list[tuple[float, float]]] = {rows: [] for rows in shapes}
    for turn in range(rounds + 3):  # three rounds warm up, and capture where calls are captured
        for rows, shape in shapes.items():
            runtime.synchronize()
            begun = time.perf_counter()
            hidden = runtime.forward(cache, shape)
            runtime.synchronize()
            between = time.perf_counter()
            runtime.logits(hidden)
            runtime.synchronize()
            if turn >= 3:
                seconds[rows].append((between - begun, time.perf_counter() - between))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    for name in SHAPE:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="instead of the preset's")
    parser.add_argument("--rows", default="1,8,16,32,64", help="numbers of rows, with commas")
    parser.add_argument("--context", type=int, default=256, help="tokens in the cache")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--eager", action="store_true", help="no captured calls")
    options = parser.parse_args()

    shape = dict(zip(SHAPE, PRESETS[options.preset]))
    shape |= {n: getattr(options, n) for n in SHAPE if getattr(options, n) is not None}
    rows = [int(n) for n in options.rows.split(",")]
    device, dtype = choose_device(options.device), choose_dtype(options.dtype, options.device)
    model = random_model(shape, device, dtype, context=max(2048, options.context + max(rows) + 1))
    runtime = TorchRuntime(model) if options.eager else make_runtime(model)
    seconds = measure(
        runtime, {n: tree(n, shape["vocabulary"]) for n in rows}, options.context, options.rounds, shape["vocabulary"]
    )
    bandwidth = memory_bandwidth(device)
    floor = call_bytes(model) / bandwidth

    print("COST ONLY, RANDOM WEIGHTS")
    print(
        "shape: " + ", ".join(f"{n} {v}" for n, v in shape.items()) + f"; {model.parameter_count / 1e9:.2f} B weights"
    )
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"device: {device} ({where}), {torch.get_num_threads()} CPU threads")
    print(f"runtime: {runtime.description}; torch {torch.__version__}, transformers {transformers.__version__}")
    if isinstance(runtime, CudaGraphRuntime) and runtime.trouble:
        print(f"NOT CAPTURED: {runtime.trouble}")
    print(f"context: {options.context} tokens; {options.rounds} rounds")
    print(f"floor: {call_bytes(model) / 1e9:.3f} GB of weights at {bandwidth / 1e9:.0f} GB/s: {1e3 * floor:.3f} ms\n")
    print(f"{'rows':>5s} {'layers ms':>10s} {'head ms':>9s} {'call ms':>9s} {'fastest':>9s} {'of floor':>9s}")
    for n, samples in seconds.items():
        layers, head = (statistics.median(part) for part in zip(*samples))
        calls = [sum(s) for s in samples]
        call = statistics.median(calls)
        times = f"{1e3 * layers:10.3f} {1e3 * head:9.3f} {1e3 * call:9.3f} {1e3 * min(calls):9.3f}"
        print(f"{n:5d} {times} {floor / call:9.2f}")


if __name__ == "__main__":
    main()
