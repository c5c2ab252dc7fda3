"""Tokens a call over the number of own look-ahead chains, at a fixed number of rows: how to split rows between drafts
that are verified now and look-ahead rows that draft the next tree.

    python docs/tools/training/chain_sweep.py --rows 16 --chains 1 2 3 4 8 --prompts 24 --tokens 96

At most so many nodes of a call's tree (the root among them) carry look-ahead rows; where the walk stops at another,
drafts come from an ancestor's chain. The rows go where the planner's own estimate finds most in them, and every call
has all of them. The text is the same in every line (coupled rule), so the lines compare the same tokens.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from pass_core.decoding import fused
from pass_core.decoding.budget import FUTURE_WEIGHT
from pass_core.engine import Engine
from pass_core.evaluation.prompts import BUILT_IN, built_in, prompt_ids
from pass_core.kernels.interface import CallPlan
from pass_core.kernels.reference_plan import Chains
from pass_core.lookahead.format import load_lookahead
from pass_core.models.loading import load_model
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy


class FewChains(Chains):
    """The planner's chains, of which at most `most` are started."""

    most = 1

    def extend(self) -> bool:
        if self._full():
            self._gains = [
                None if length == 0 else gain for gain, length in zip(self._gains, self.lengths, strict=True)
            ]
        return super().extend()

    def _full(self) -> bool:
        return sum(length > 0 for length in self.lengths) >= self.most

    def _gain(self, node: int) -> float:
        if self.lengths[node] == 0 and self._full():
            return 0.0
        return super()._gain(node)


def plan(reaches: Sequence[float], parents: Sequence[int], hits: Sequence[float], rows_limit: int, *_: Any) -> CallPlan:
    """The best shape of exactly `rows_limit` rows (fewer only where there are no more drafts), with few chains."""
    best, best_value = CallPlan(0, (0,)), -1.0
    for drafts in range(min(len(reaches), rows_limit - 1) + 1):
        chains = FewChains(reaches[:drafts], parents[:drafts], hits)
        rows = 1 + drafts
        while rows < rows_limit and chains.extend():
            rows += 1
        value = 1.0 + sum(reaches[:drafts]) + FUTURE_WEIGHT * chains.promised
        if value > best_value:
            best, best_value = CallPlan(drafts, tuple(chains.lengths)), value
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--chains", type=int, nargs="+", default=[1, 2, 3, 4, 8])
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--lookahead", default="resources/embeddings/smollm2-135m-best.safetensors")
    parser.add_argument("--dtype", default="bfloat16")
    asked = parser.parse_args()
    model = load_model(dtype=asked.dtype)
    lookahead = load_lookahead(asked.lookahead)
    engine = Engine(model)
    engine.prepare(lookahead)
    turns = zip_longest(*(built_in(name) for name in BUILT_IN))
    chosen = [prompt for turn in turns for prompt in turn if prompt is not None][: asked.prompts]
    settings = DecodingSettings(
        strategy=Strategy.FUSED,
        k=lookahead.count,
        sampling=SamplingSettings(0.8, 10),
        row_budget=asked.rows,
        auto=False,
    )
    own = fused.plan
    print(f"{len(chosen)} built-in prompts, {asked.tokens} tokens each, {asked.rows} rows a call, {asked.lookahead}")
    print("| own chains at most | tokens a call | drafts verified a call | look-ahead rows a call | calls |")
    print("|---|---|---|---|---|", flush=True)
    for most in [*asked.chains, 0]:
        FewChains.most = most
        fused.plan = plan if most else own
        seen: Counter[str] = Counter()
        for prompt in chosen:
            stop = StopConditions(asked.tokens, ignore_eos=True)
            for event in engine.decode(prompt_ids(prompt, model), settings, lookahead=lookahead, stop=stop, seed=0):
                seen["tokens"] += len(event.tokens)
                seen["calls"] += event.calls
                seen["drafts"] += sum(event.rows) - event.calls - event.lookahead_rows
                seen["ahead"] += event.lookahead_rows
        calls = seen["calls"]
        name = str(most) if most else "the planner's choice"
        print(
            f"| {name} | {seen['tokens'] / calls:.3f} | {seen['drafts'] / calls:.1f} | {seen['ahead'] / calls:.1f} "
            f"| {calls:,} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
