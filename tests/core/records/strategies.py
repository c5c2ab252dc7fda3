"""Hypothesis strategies for events and runs, shared by the tests of everything that stores or exports them."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from pass_core.decoding.events import (
    Candidate,
    DraftNode,
    DraftSource,
    DraftStatus,
    PrefillInfo,
    Provenance,
    StepEvent,
    StopReason,
    TokenEvent,
)
from pass_core.prompt import Message, Role
from pass_core.records.runs import Environment, LookaheadInfo, ModelInfo, RunRecord, RunStatus, header_to_dict
from pass_core.settings import (
    Baseline,
    BaselineSettings,
    DecodingSettings,
    LookaheadPart,
    SamplingSettings,
    StopConditions,
    Strategy,
    Verification,
)

counts = st.integers(0, 2**40)
numbers = st.floats(allow_nan=False)
maybe_number = st.none() | numbers
texts = st.text(max_size=12)

samplings = st.builds(
    SamplingSettings,
    temperature=st.floats(0, 2),
    top_k=st.integers(0, 200),
    top_p=st.just(1.0) | st.floats(0, 1, exclude_min=True),
    min_p=st.just(0.0) | st.floats(0, 1),
)
baselines = st.builds(BaselineSettings, strategy=st.sampled_from(Baseline), k=st.integers(0, 64), sampling=samplings)
settings = baselines | st.builds(
    DecodingSettings,
    strategy=st.sampled_from(Strategy),
    k=st.integers(0, 64),
    sampling=samplings,
    verification=st.sampled_from(Verification),
    auto=st.booleans(),
    row_budget=st.none() | st.integers(1, 256),
    prompt_lookup=st.booleans(),
    disabled_parts=st.frozensets(st.sampled_from(LookaheadPart)),
)
stops = st.builds(
    StopConditions,
    max_new_tokens=st.integers(1, 10**6),
    stop_strings=st.lists(st.text(min_size=1, max_size=5), max_size=3).map(tuple),
    ignore_eos=st.booleans(),
)
candidates = st.builds(Candidate, id=counts, text=texts, p_target=numbers, p_draft=maybe_number, noise=maybe_number)
tokens = st.builds(
    TokenEvent,
    index=counts,
    id=counts,
    bytes=st.binary(max_size=8),
    text=texts,
    provenance=st.sampled_from(Provenance),
    draft_position=st.none() | st.integers(1, 64),
    p_target=numbers,
    p_draft=maybe_number,
    source=st.none() | st.sampled_from(DraftSource),
    top=st.lists(candidates, max_size=3).map(tuple),
    uniform=maybe_number,
)
drafts = st.builds(
    DraftNode,
    index=counts,
    parent=st.none() | counts,
    depth=st.integers(1, 64),
    id=counts,
    text=texts,
    p_target=maybe_number,
    p_draft=maybe_number,
    noise=maybe_number,
    uniform=maybe_number,
    source=st.sampled_from(DraftSource),
    status=st.sampled_from(DraftStatus),
)
steps = st.builds(
    StepEvent,
    index=counts,
    tokens=st.lists(tokens, max_size=3).map(tuple),
    drafts=st.lists(drafts, max_size=3).map(tuple),
    calls=counts,
    rows=st.lists(counts, max_size=3).map(tuple),
    lookahead_rows=counts,
    seconds=numbers,
    forward_seconds=numbers,
    settings=settings,
    context_length=counts,
    reason=texts,
    prefill=st.none() | st.builds(PrefillInfo, prompt_tokens=counts, seconds=numbers, calls=counts),
    stop_reason=st.none() | st.sampled_from(StopReason),
    stop_overlap=st.integers(0, 9),
)
records = st.builds(
    RunRecord,
    id=st.uuids().map(lambda u: u.hex),
    created=st.datetimes(timezones=st.just(UTC)),
    prompt=texts,
    seed=st.integers(),
    settings=settings,
    stop=stops,
    title=texts,
    typed=st.none() | texts,
    messages=st.lists(st.builds(Message, st.sampled_from(Role), texts), max_size=3).map(tuple),
    model=st.builds(ModelInfo, name=texts, source=texts, fingerprint=texts),
    lookahead=st.none() | st.builds(LookaheadInfo, origin=texts, hash=texts, count=counts, trained=st.booleans()),
    environment=st.builds(
        Environment,
        program=texts,
        python=texts,
        torch=texts,
        transformers=texts,
        system=texts,
        device=texts,
        device_name=texts,
        dtype=texts,
        threads=counts,
    ),
    steps=st.lists(steps, max_size=2).map(tuple),
    status=st.sampled_from(RunStatus),
    group=texts,
)


def example_steps() -> tuple[StepEvent, ...]:
    """Three steps of a two-draft run in which every provenance and every draft status occurs.

    The é is split over the two tokens of the first step.
    """
    settings = DecodingSettings(k=2, verification=Verification.COUPLED)
    accent = "é".encode()
    first = StepEvent(
        index=0,
        tokens=(
            TokenEvent(0, 10, b" caf" + accent[:1], " caf", Provenance.MODEL, None, 0.5),
            TokenEvent(1, 11, accent[1:], "é", Provenance.ACCEPTED, 1, 0.75, 0.5, DraftSource.LOOKAHEAD),
        ),
        drafts=(
            DraftNode(0, None, 1, 11, "\ufffd", 0.75, 0.5, 1.5, None, DraftSource.LOOKAHEAD, DraftStatus.ACCEPTED),
            DraftNode(1, None, 1, 12, " x", 0.125, 0.25, -0.5, None, DraftSource.LOOKAHEAD, DraftStatus.REJECTED),
        ),
        calls=2,
        rows=(3, 3),
        lookahead_rows=2,
        seconds=0.5,
        forward_seconds=0.25,
        settings=settings,
        context_length=6,
        prefill=PrefillInfo(4, 0.125, 1),
    )
    second = StepEvent(
        index=1,
        tokens=(
            TokenEvent(
                2,
                20,
                b" is",
                " is",
                Provenance.CORRECTED,
                1,
                0.25,
                0.125,
                top=(Candidate(21, " was", 0.5, 0.625, 0.5), Candidate(20, " is", 0.25, 0.125, 2.0)),
            ),
        ),
        drafts=(
            DraftNode(0, None, 1, 21, " was", 0.5, 0.625, 0.5, None, DraftSource.LOOKAHEAD, DraftStatus.REJECTED),
            DraftNode(1, 0, 2, 22, " a", None, 0.5, 0.5, None, DraftSource.LOOKUP, DraftStatus.UNREACHED),
        ),
        calls=1,
        rows=(5,),
        lookahead_rows=2,
        seconds=0.25,
        forward_seconds=0.125,
        settings=settings,
        context_length=7,
        reason="two drafts pay",
    )
    third = StepEvent(
        index=2,
        tokens=(
            TokenEvent(3, 30, b" open", " open", Provenance.ACCEPTED, 1, 0.5, 0.5, DraftSource.LOOKUP),
            TokenEvent(4, 31, b".", ".", Provenance.BONUS, None, 1.0),
        ),
        drafts=(DraftNode(0, None, 1, 30, " open", 0.5, None, 0.75, None, DraftSource.LOOKUP, DraftStatus.ACCEPTED),),
        calls=1,
        rows=(5,),
        lookahead_rows=2,
        seconds=0.25,
        forward_seconds=0.125,
        settings=settings,
        context_length=9,
        stop_reason=StopReason.MAX_NEW_TOKENS,
    )
    return first, second, third


def example_record() -> RunRecord:
    """A small finished run with the steps above."""
    return RunRecord(
        id="0" * 32,
        created=datetime(2026, 1, 31, 12, 0, tzinfo=UTC),
        prompt="Where?",
        seed=7,
        settings=DecodingSettings(k=2),
        title="example",
        model=ModelInfo("tiny", "tiny", "ab" * 8),
        lookahead=LookaheadInfo("mean embedding (untrained)", "cd" * 8, 5, False),
        environment=Environment(torch="2.13.0", device="cpu", device_name="CPU", dtype="float32", threads=2),
        steps=example_steps(),
    )


def example_header() -> dict[str, object]:
    """The header fields of the run above."""
    return header_to_dict(example_record())
