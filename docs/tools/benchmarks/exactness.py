"""Losslessness on the default model: plain decoding against transformers, then PASS against plain decoding.

    python docs/tools/benchmarks/exactness.py > docs/exactness.txt

1. Greedy: `autoregressive` writes, token for token, what transformers' own `generate` writes.
2. Coupled rule: two-call and fused PASS write, token for token, what `autoregressive` writes with the same seed, for
   every k, row budget, prompt lookup on and off, trained, partly disabled and untrained look-ahead embeddings, with
   and without the model's own bigrams and the text's repeats; at temperature 0 under the rejection rule too.

Each text is compared with `--variants` ways of writing it, taken in turns so that every way meets every temperature;
`--variants all` compares with all of them (hours). A difference is shown with the two tokens' probabilities, which
tells a near tie (two tokens equally likely up to rounding) from an error. The exit code is 1 if there was one.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
import transformers

from pass_core.decoding.events import TokenEvent
from pass_core.engine import Engine
from pass_core.evaluation.prompts import BUILT_IN, built_in, prompt_ids
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.catalog import resource_folder
from pass_core.models.loading import load_model
from pass_core.models.prompts import encode
from pass_core.models.shipped import default_lookahead, untrained_lookahead
from pass_core.prompt import Prompt
from pass_core.settings import (
    DecodingSettings,
    LookaheadPart,
    SamplingSettings,
    StopConditions,
    Strategy,
    Verification,
)

TEMPERATURES = (0.0, 0.8, 1.2)
SEEDS = (0, 1, 2)
TOP_K = 10
FILE_PARTS = frozenset({LookaheadPart.DEEP, LookaheadPart.ADAPTER, LookaheadPart.SAMPLER})


@dataclass(frozen=True)
class Variant:
    """One way to write a text."""

    name: str
    strategy: Strategy
    k: int
    trained: bool = True
    auto: bool = False
    budget: int | None = None
    lookup: bool = False
    disabled: frozenset[LookaheadPart] = frozenset()
    rule: Verification = Verification.COUPLED

    def settings(self, sampling: SamplingSettings) -> DecodingSettings:
        return DecodingSettings(
            self.strategy, self.k, sampling, self.rule, self.auto, self.budget, self.lookup, self.disabled
        )


TWO, FUSED = Strategy.TWO_CALL, Strategy.FUSED
VARIANTS = (
    *(Variant(f"two-call k={k}", TWO, k) for k in (1, 2, 3, 5)),
    Variant("two-call k=4 untrained, bigrams", TWO, 4, trained=False),
    *(Variant(f"fused k={k} full chains", FUSED, k) for k in (1, 2, 3, 5)),
    *(Variant(f"fused k=5 budget {b}", FUSED, 5, budget=b) for b in (2, 6, 16, 48)),
    *(Variant(f"fused k=5 budget {b} lookup", FUSED, 5, budget=b, lookup=True) for b in (4, 12, 32)),
    Variant("fused k=3 lookup, full chains", FUSED, 3, lookup=True),
    Variant("fused k=4 untrained, bigrams, budget 20", FUSED, 4, trained=False, budget=20),
    Variant("fused k=5 no part, bigrams, budget 20", FUSED, 5, budget=20, disabled=FILE_PARTS),
    Variant("fused k=5 no part, budget 20", FUSED, 5, budget=20, disabled=frozenset(LookaheadPart)),
    Variant("fused k=5 no repeats, budget 20", FUSED, 5, budget=20, disabled=frozenset({LookaheadPart.REPEATS})),
    Variant("fused k=5 auto", FUSED, 5, auto=True),
    Variant("fused k=5 auto, lookup", FUSED, 5, auto=True, lookup=True),
)
GREEDY_ONLY = (
    Variant("two-call k=5 rejection", TWO, 5, rule=Verification.REJECTION),
    Variant("fused k=5 rejection", FUSED, 5, rule=Verification.REJECTION),
    Variant("fused k=5 rejection, lookup", FUSED, 5, lookup=True, rule=Verification.REJECTION),
)


@dataclass
class Tally:
    """What was compared."""

    texts: int = 0
    tokens: int = 0
    accepted: int = 0
    calls: int = 0
    differences: list[str] = field(default_factory=list[str])

    def line(self, name: str) -> str:
        drafts = f", {self.accepted:6d} accepted drafts, {self.calls:6d} calls" if self.calls else ""
        verdict = "equal" if not self.differences else f"{len(self.differences)} DIFFERENT"
        return f"  {name:40s} {self.texts:4d} texts, {self.tokens:6d} tokens{drafts}: {verdict}"


def write(
    engine: Engine,
    ids: list[int],
    settings: DecodingSettings,
    count: int,
    seed: int,
    lookahead: LookaheadEmbeddings | None = None,
) -> tuple[list[TokenEvent], int, int]:
    """The tokens, the accepted drafts and the calls of one run."""
    tokens: list[TokenEvent] = []
    accepted = calls = 0
    stop = StopConditions(count, ignore_eos=True)
    for step in engine.decode(ids, settings, lookahead=lookahead, stop=stop, seed=seed):
        tokens += step.tokens
        accepted += step.accepted
        calls += step.calls
    return tokens, accepted, calls


def difference(plain: list[TokenEvent], other: list[TokenEvent]) -> str:
    """Where two texts part and how likely the two tokens were; "" when they do not."""
    for index, (a, b) in enumerate(zip(plain, other)):
        if a.id != b.id:
            inside = {c.id: c.p_target for c in a.top}
            return f"token {index}: {a.id} (p {a.p_target:.6f}) became {b.id} (p {inside.get(b.id, 0.0):.6f} there)"
    return "" if len(plain) == len(other) else f"{len(plain)} tokens became {len(other)}"


def greedy_against_transformers(engine: Engine, prompts: list[list[int]], count: int) -> Tally:
    """Part 1."""
    model = engine.model
    tally = Tally()
    settings = DecodingSettings(Strategy.AUTOREGRESSIVE, sampling=SamplingSettings(0.0))
    for number, ids in enumerate(prompts):
        given = torch.tensor([ids], device=model.device)
        with torch.inference_mode():
            generated = model.model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                # The end token is ignored, so that all texts have full length.
                eos_token_id=None,
            )[0, len(ids) :].tolist()
        tokens, _, _ = write(engine, ids, settings, count, 0)
        ours = [t.id for t in tokens]
        tally.texts += 1
        tally.tokens += len(ours)
        if ours != generated:
            at = next((i for i, (a, b) in enumerate(zip(ours, generated)) if a != b), min(len(ours), len(generated)))
            tally.differences.append(f"prompt {number}, token {at}")
        progress(f"greedy against transformers: prompt {number + 1} of {len(prompts)}")
    return tally


def pass_against_plain(
    engine: Engine,
    prompts: list[list[int]],
    count: int,
    variants: int | None,
    seeds: int,
    word: str,
    kept: SamplingSettings,
) -> dict[str, Tally]:
    """Part 2, with the ways whose name holds `word`; `kept` says which tokens are left."""
    ways = [v for v in VARIANTS if word in v.name]
    greedy_only = [v for v in GREEDY_ONLY if word in v.name]
    model = engine.model
    trained, untrained = default_lookahead(model), untrained_lookahead(model)
    engine.prepare(untrained)
    tallies = {v.name: Tally() for v in (*ways, *greedy_only)}
    turns: dict[float, Iterator[Variant]] = {
        t: itertools.cycle(ways if t else (*ways, *greedy_only)) for t in TEMPERATURES
    }
    jobs = [(i, t, s) for i in range(len(prompts)) for t in TEMPERATURES for s in SEEDS[:seeds]]
    plain: list[TokenEvent] = []
    for done, (number, temperature, seed) in enumerate(jobs):
        ids, sampling = prompts[number], replace(kept, temperature=temperature)
        if temperature > 0 or seed == SEEDS[0]:  # the greedy text is the same for every seed
            plain, _, _ = write(engine, ids, DecodingSettings(Strategy.AUTOREGRESSIVE, sampling=sampling), count, seed)
        available = len(ways) + (0 if temperature else len(greedy_only))
        for variant in itertools.islice(turns[temperature], variants or available):
            lookahead = trained if variant.trained else untrained
            tokens, accepted, calls = write(engine, ids, variant.settings(sampling), count, seed, lookahead)
            tally = tallies[variant.name]
            tally.texts += 1
            tally.tokens += len(tokens)
            tally.accepted += accepted
            tally.calls += calls
            if found := difference(plain, tokens):
                tally.differences.append(f"prompt {number}, temperature {temperature}, seed {seed}, {found}")
        progress(f"PASS against plain decoding: {done + 1} of {len(jobs)} texts")
    return tallies


def novel(engine: Engine, lengths: list[int]) -> list[list[int]]:
    """Prompts of these many tokens, one after another in the novel that comes with the program."""
    text = (resource_folder("prompts") / "training" / "moby-dick.txt").read_text(encoding="utf-8")
    at, prompts = 0, list[list[int]]()
    for length in lengths:
        ids = encode(engine.model, Prompt(text[at:][: 8 * length]))
        prompts.append(ids[:length])
        at += 8 * length
    return prompts


def progress(text: str) -> None:
    print(f"\r{text}   ", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="catalog name, hub id or path; the default model by default")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=128, help="of each text of part 1")
    parser.add_argument("--pass-tokens", type=int, default=64, help="of each text of part 2")
    parser.add_argument(
        "--lengths",
        help="instead of the short prompts, pieces of a novel of so many tokens: 480,640 (a sliding window)",
    )
    parser.add_argument("--variants", default="2", help="ways compared with each text, or “all”")
    parser.add_argument("--ways", default="", help="only those with this word, such as “fused”")
    parser.add_argument("--top-k", type=int, default=TOP_K, help="0 keeps all")
    parser.add_argument("--top-p", type=float, default=1.0, help="of part 2; 1 is off")
    parser.add_argument("--min-p", type=float, default=0.0, help="of part 2; 0 is off")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), choices=range(1, len(SEEDS) + 1))
    options = parser.parse_args()
    variants = None if options.variants == "all" else int(options.variants)

    model = load_model(options.model, device="cpu", dtype=options.dtype)
    engine = Engine(model)
    sets = [built_in(name) for name in BUILT_IN]
    lengths = [int(n) for n in options.lengths.split(",")] if options.lengths else []
    mixed = [prompt for group in zip(*sets) for prompt in group][: options.prompts]
    prompts = novel(engine, lengths) or [prompt_ids(p, model) for p in mixed]
    print(f"command: python docs/tools/benchmarks/exactness.py {' '.join(sys.argv[1:])}".rstrip())
    print(f"model: {model.name}, {options.dtype}, {engine.runtime.description}")
    print(f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}")
    kind = f"of {options.lengths} tokens of a novel" if lengths else "of prose, code and chat in turns"
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    seen = f", sliding window {window}" if window else ""
    kept = SamplingSettings(1.0, options.top_k, options.top_p, options.min_p)
    print(f"{len(prompts)} prompts {kind}, {', '.join(kept.described[1:])}{seen}\n")

    started = time.monotonic()
    bad: list[str] = []
    if options.dtype == "float32":
        tally = greedy_against_transformers(engine, prompts, options.tokens)
        print("1. greedy: autoregressive against transformers generate")
        print(tally.line("autoregressive"))
        bad += tally.differences
    tallies = pass_against_plain(engine, prompts, options.pass_tokens, variants, options.seeds, options.ways, kept)
    print(f"\n2. same seed, same text as autoregressive: temperatures {TEMPERATURES}, seeds {SEEDS[: options.seeds]}")
    for name, tally in tallies.items():
        if tally.texts:  # a way without a turn shows nothing
            print(tally.line(name))
        bad += [f"{name}: {d}" for d in tally.differences]
    print("\n" + ("every text is equal" if not bad else "\n".join(["differences:", *bad])))
    print(f"({time.monotonic() - started:.0f} seconds)")
    progress("\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
