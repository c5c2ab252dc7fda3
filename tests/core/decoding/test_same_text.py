"""Losslessness, token for token: every strategy, k, tree and look-ahead file writes what plain decoding writes."""

from __future__ import annotations

import pytest
import torch

from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.models.shipped import default_lookahead
from pass_core.runtime.cost import CostModel
from pass_core.settings import LookaheadPart, StopConditions, Strategy, Verification
from tests import tiny
from tests.core.decoding.engine import ALL_PARTS, random_bigrams, random_lookahead, run
from tests.engines import engine_of, use

# Few tokens, so that even drafts from random weights are often accepted.
VOCABULARY = 12
PROMPT = [1, 5, 2, 7, 1, 5]
LENGTH = 4  # of the look-ahead files
PASS = (Strategy.TWO_CALL, Strategy.FUSED)
FREE = CostModel({1: 1.0, 48: 1.0}, clock=lambda: 0.0)  # rows cost nothing: auto drafts all it can
DEAR = CostModel({1: 1.0, 48: 48.0}, clock=lambda: 0.0)  # every row costs a call: auto falls back to plain calls


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny.FAMILIES[request.param](vocabulary=VOCABULARY)


def test_greedy_text_is_that_of_transformers_generate(model: LanguageModel) -> None:
    ids = torch.tensor([PROMPT])
    generated = model.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False)
    assert run(model, PROMPT, temperature=0.0, count=30).ids == generated[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("rule", Verification)
@pytest.mark.parametrize("strategy", PASS)
def test_greedy_text_is_the_same_for_every_k_rule_and_part(
    model: LanguageModel, strategy: Strategy, rule: Verification
) -> None:
    plain = run(model, PROMPT, temperature=0.0)
    accepted = 0
    for k in range(LENGTH + 1):
        for parts in (frozenset[LookaheadPart](), ALL_PARTS):
            lookahead = random_lookahead(model, LENGTH, parts, seed=k)
            got = run(model, PROMPT, strategy, temperature=0.0, k=k, verification=rule, lookahead=lookahead)
            assert got.ids == plain.ids, (k, parts)
            accepted += got.summary.accepted
    assert accepted > 0


@pytest.mark.parametrize("temperature", [0.8, 2.0])
def test_coupled_text_depends_on_the_seed_alone(model: LanguageModel, temperature: float) -> None:
    texts: set[tuple[int, ...]] = set()
    accepted = dict.fromkeys(PASS, 0)
    for seed in (0, 1, 2**63):
        plain = run(model, PROMPT, seed=seed, temperature=temperature, top_k=8).ids
        texts.add(tuple(plain))
        for strategy in PASS:
            for k in range(1, LENGTH + 1):
                lookahead = random_lookahead(model, LENGTH, ALL_PARTS if k % 2 else frozenset(), seed=k)
                got = run(
                    model, PROMPT, strategy, seed=seed, temperature=temperature, top_k=8, k=k, lookahead=lookahead
                )
                assert got.ids == plain, (seed, strategy, k)
                accepted[strategy] += got.summary.accepted
    assert len(texts) > 1
    assert min(accepted.values()) > 0


@pytest.mark.parametrize("cut", [{"top_p": 0.6}, {"top_p": 0.9, "min_p": 0.4}], ids=str)
@pytest.mark.parametrize("top_k", [0, 8])
def test_coupled_text_is_the_same_with_top_p_and_min_p(top_k: int, cut: dict[str, float]) -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    same = {"seed": 3, "temperature": 1.2, "top_k": top_k, "count": 16}
    plain = run(model, PROMPT, **same, **cut).ids
    assert plain != run(model, PROMPT, **same).ids
    accepted = dict.fromkeys(PASS, 0)
    for strategy in PASS:
        for k, options in ((2, {}), (LENGTH, {"row_budget": 16, "prompt_lookup": True})):
            lookahead = random_lookahead(model, LENGTH, ALL_PARTS if k == 2 else frozenset(), seed=k)
            got = run(model, PROMPT, strategy, k=k, lookahead=lookahead, **same, **cut, **options)
            assert got.ids == plain, (strategy, k)
            accepted[strategy] += got.summary.accepted
    assert min(accepted.values()) > 0
    assert run(model, PROMPT, temperature=0.0, top_k=top_k, **cut).ids == run(model, PROMPT, temperature=0.0).ids


@pytest.mark.parametrize("lookup", [False, True])
@pytest.mark.parametrize("budget", [1, 2, 5, 16, 40])
def test_coupled_text_is_the_same_for_every_row_budget(model: LanguageModel, budget: int, lookup: bool) -> None:
    plain = run(model, PROMPT, seed=4, top_k=0)
    lookahead = random_lookahead(model, LENGTH, seed=budget)
    got = run(
        model, PROMPT, Strategy.FUSED, seed=4, top_k=0, lookahead=lookahead, row_budget=budget, prompt_lookup=lookup
    )
    assert got.ids == plain.ids
    assert max(r for s in got.steps for r in s.rows) <= budget


@pytest.mark.parametrize("lookup", [False, True])
@pytest.mark.parametrize("cost", [FREE, DEAR], ids=["rows are free", "rows are dear"])
def test_coupled_text_is_the_same_whatever_auto_chooses(model: LanguageModel, cost: CostModel, lookup: bool) -> None:
    use(model, cost=cost)
    plain = run(model, PROMPT, seed=5)
    got = run(model, PROMPT, Strategy.FUSED, seed=5, auto=True, prompt_lookup=lookup)
    assert got.ids == plain.ids
    assert all(s.reason for s in got.steps)


def test_lookup_drafts_are_accepted_and_change_nothing() -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    plain = run(model, PROMPT, temperature=0.0, count=80)
    sources: dict[str, int] = {}
    for rule in Verification:
        got = run(
            model,
            PROMPT,
            Strategy.FUSED,
            temperature=0.0,
            count=80,
            prompt_lookup=True,
            verification=rule,
            lookahead=random_lookahead(model),
        )
        assert got.ids == plain.ids
        for source, count in got.summary.sources.items():
            sources[source] = sources.get(source, 0) + count
    assert sources.get("prompt-lookup", 0) > 0


def test_more_steps_than_one_call_can_carry_are_cut_to_fit() -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    lookahead = random_lookahead(model, 20)
    plain = run(model, PROMPT, temperature=0.0, count=80)
    for rule in Verification:
        got = run(
            model, PROMPT, Strategy.FUSED, temperature=0.0, count=80, k=20, lookahead=lookahead, verification=rule
        )
        assert got.ids == plain.ids
        assert max(s.proposed for s in got.steps) == 20
        assert max(r for s in got.steps for r in s.rows) <= 256


def test_untrained_fallback_embeddings_serve_without_a_file() -> None:
    model = tiny.tiny_qwen2(vocabulary=VOCABULARY)
    plain = run(model, PROMPT)
    for strategy in PASS:
        got = run(model, PROMPT, strategy, k=64)
        assert got.ids == plain.ids
        assert got.steps[0].settings.k == 5


@pytest.mark.parametrize("rule", Verification)
def test_greedy_text_is_the_same_with_the_models_own_bigrams(model: LanguageModel, rule: Verification) -> None:
    plain = run(model, PROMPT, temperature=0.0)
    lookahead = random_lookahead(model, LENGTH)
    use(model, bigrams=random_bigrams(model, VOCABULARY - 3))
    for strategy in PASS:
        for k in (1, LENGTH):
            got = run(model, PROMPT, strategy, temperature=0.0, k=k, verification=rule, lookahead=lookahead)
            assert got.ids == plain.ids, (strategy, k)


def test_coupled_text_is_the_same_with_the_models_own_bigrams(model: LanguageModel) -> None:
    lookahead = random_lookahead(model, LENGTH)
    use(model, bigrams=random_bigrams(model, VOCABULARY - 3))
    accepted = 0
    for seed in range(3):
        plain = run(model, PROMPT, seed=seed)
        for strategy, options in (
            (Strategy.TWO_CALL, {}),
            (Strategy.FUSED, {}),
            (Strategy.FUSED, {"row_budget": 16, "prompt_lookup": True}),
        ):
            got = run(model, PROMPT, strategy, seed=seed, k=LENGTH, lookahead=lookahead, **options)
            assert got.ids == plain.ids, (seed, strategy, options)
            accepted += got.summary.accepted
    assert accepted > 0


Drafts = list[list[tuple[int, float | None]]]


def two_call_drafts(
    model: LanguageModel,
    lookahead: LookaheadEmbeddings,
    disabled: frozenset[LookaheadPart] = frozenset(),
    *,
    repeats: bool = False,
) -> Drafts:
    disabled |= frozenset() if repeats else {LookaheadPart.REPEATS}
    got = run(model, PROMPT, Strategy.TWO_CALL, k=LENGTH, lookahead=lookahead, disabled_parts=disabled, temperature=1.0)
    return [[(d.id, d.p_draft) for d in s.drafts] for s in got.steps]


def test_bigrams_score_drafts_where_no_sampler_does() -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    bare, whole = random_lookahead(model, LENGTH), random_lookahead(model, LENGTH, ALL_PARTS)
    without, with_sampler = two_call_drafts(model, bare), two_call_drafts(model, whole)
    no_sampler = frozenset({LookaheadPart.SAMPLER})
    sampler_off = two_call_drafts(model, whole, no_sampler)
    use(model, bigrams=random_bigrams(model, VOCABULARY))
    assert two_call_drafts(model, bare) != without
    assert two_call_drafts(model, bare, frozenset({LookaheadPart.BIGRAMS})) == without
    assert two_call_drafts(model, whole) == with_sampler
    assert two_call_drafts(model, whole, no_sampler) != sampler_off
    assert two_call_drafts(model, whole, no_sampler | {LookaheadPart.BIGRAMS}) == sampler_off
    use(model, bigrams=Bigrams(torch.zeros(VOCABULARY, model.hidden_size, dtype=torch.bfloat16)))
    for ours, plain in zip(two_call_drafts(model, bare), without, strict=True):
        assert [i for i, _ in ours] == [i for i, _ in plain]
        assert [p for _, p in ours] == pytest.approx([p for _, p in plain], abs=1e-5)


def test_what_the_text_repeats_scores_drafts_where_a_head_does() -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    bare, whole = random_lookahead(model, LENGTH), random_lookahead(model, LENGTH, ALL_PARTS)
    assert two_call_drafts(model, bare, repeats=True) == two_call_drafts(model, bare)
    assert two_call_drafts(model, whole, repeats=True) != two_call_drafts(model, whole)


def test_preparing_drafts_reads_bigrams_only_where_they_are_used() -> None:
    engine = engine_of(model := tiny.tiny_llama(vocabulary=VOCABULARY))
    engine.prepare(random_lookahead(model, LENGTH, ALL_PARTS))
    engine.prepare(random_lookahead(model, LENGTH), disabled=frozenset({LookaheadPart.BIGRAMS}))
    assert engine.bigrams is None
    sampler_off = frozenset({LookaheadPart.SAMPLER})
    engine.prepare(random_lookahead(model, LENGTH, ALL_PARTS), disabled=sampler_off)
    assert engine.bigrams is not None
    assert engine.bigrams.known == VOCABULARY


@pytest.mark.parametrize("part", sorted(ALL_PARTS))
def test_disabled_parts_are_ignored(part: LookaheadPart) -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    whole = random_lookahead(model, LENGTH, ALL_PARTS)
    without = random_lookahead(model, LENGTH, ALL_PARTS).without(frozenset({part}))

    assert two_call_drafts(model, whole, frozenset({part})) == two_call_drafts(model, without)
    assert two_call_drafts(model, whole, frozenset({part})) != two_call_drafts(model, whole)


# --- the default model

PROMPTS = (
    "The history of the printing press begins",
    "def quicksort(items):\n",
    "Question: why is the sky blue?\nAnswer:",
)


@pytest.mark.model
def test_the_default_model_writes_what_transformers_generate_writes(default_model: LanguageModel) -> None:
    for prompt in PROMPTS:
        ids = default_model.tokenizer(prompt, return_tensors="pt")["input_ids"]
        generated = default_model.model.generate(ids, max_new_tokens=32, do_sample=False)[0, ids.shape[1] :].tolist()
        got = run(default_model, prompt, temperature=0.0, count=32, stop=StopConditions(32))
        assert got.ids == generated[: len(got.ids)]
        assert len(got.ids) == len(generated)


@pytest.mark.model
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_default_model_writes_the_same_with_pass(default_model: LanguageModel, temperature: float) -> None:
    random, trained = random_lookahead(default_model, 5, ALL_PARTS), default_lookahead(default_model)
    accepted = 0
    plain = run(default_model, PROMPTS[1], temperature=temperature, count=20, seed=1)
    for strategy, options in (
        (Strategy.TWO_CALL, {"k": 4}),
        (Strategy.FUSED, {"k": 2}),
        (Strategy.FUSED, {"k": 5, "row_budget": 24, "prompt_lookup": True}),
    ):
        got = run(
            default_model,
            PROMPTS[1],
            strategy,
            temperature=temperature,
            count=20,
            seed=1,
            lookahead=random if options["k"] == 2 else trained,
            **options,
        )
        assert got.ids == plain.ids, (strategy, options)
        accepted += got.summary.accepted
    assert accepted > 0
