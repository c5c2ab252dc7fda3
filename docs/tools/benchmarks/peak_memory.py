"""Peak memory of PASS above plain decoding: each strategy in a process of its own, same prompts and length.

    python docs/tools/benchmarks/peak_memory.py > docs/peak_memory.txt

On a CPU the peak is the process's largest resident set (what the operating system counted); on CUDA the allocator's
peak besides. Loading is over before the figure is reset where the system allows that (Linux), so that what decoding
needs does not hide behind what loading took.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

STRATEGIES = ("autoregressive", "pass-two-call", "pass")
PROMPTS = ("The lighthouse keeper had not slept for", "def merge_sort(items):\n", "The causes of the war were")


def child(strategy: str, tokens: int, dtype: str) -> None:
    import psutil
    import torch

    from pass_core.engine import Engine
    from pass_core.models.loading import load_model
    from pass_core.models.shipped import default_lookahead
    from pass_core.settings import DecodingSettings, StopConditions, Strategy

    model = load_model(dtype=dtype)  # pyright: ignore[reportArgumentType]
    engine = Engine(model)
    engine.prepare()
    settings = DecodingSettings(strategy=Strategy(strategy), k=6)
    lookahead = None if settings.strategy is Strategy.AUTOREGRESSIVE else default_lookahead(model)
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # the peak of the resident set starts afresh
    for prompt in PROMPTS:
        for _ in engine.decode(prompt, settings, lookahead=lookahead, stop=StopConditions(tokens, ignore_eos=True)):
            pass
    figures = {"resident_now": psutil.Process().memory_info().rss, "peak": _peak()}
    if model.device.type == "cuda":
        figures["cuda_peak"] = torch.cuda.max_memory_allocated(model.device)
    print(json.dumps(figures))


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.tokens, options.dtype)
        return 0
    print(f"command: python docs/tools/benchmarks/peak_memory.py {' '.join(sys.argv[1:])}".rstrip())
    print(f"{options.dtype}, {options.tokens} tokens after each of {len(PROMPTS)} prompts, {platform.platform()}\n")
    plain: dict[str, int] = {}
    for strategy in STRATEGIES:
        words = [sys.executable, __file__, "--child", strategy, "--tokens", str(options.tokens)]
        run = subprocess.run([*words, "--dtype", options.dtype], capture_output=True, text=True, check=True)
        figures: dict[str, int] = json.loads(run.stdout.splitlines()[-1])
        plain = plain or figures
        shown = ", ".join(
            f"{name.replace('_', ' ')} {value / 1e6:.1f} MB ({100 * (value / plain[name] - 1):+.1f} %)"
            for name, value in figures.items()
        )
        print(f"{strategy:16s} {shown}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
