"""The hash of a text is the same under every strategy, and another as soon as anything that decides the text is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pass_core.models.language_model import LanguageModel
from pass_core.records.text_hash import HASH_DIGITS, sampling_schedule, text_hash
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy
from tests import tiny
from tests.app.window.events import step, token
from tests.core.decoding.engine import random_lookahead, run

PROMPT = [1, 5, 2, 7, 1, 5]
STOP = StopConditions(32)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny.tiny_llama(vocabulary=12)


def test_every_strategy_and_look_ahead_file_gives_the_same_hash(model: LanguageModel) -> None:
    hashes: set[str] = set()
    accepted: list[int] = []
    for strategy in (Strategy.AUTOREGRESSIVE, Strategy.TWO_CALL, Strategy.FUSED):
        for file in (None, random_lookahead(model, 3), random_lookahead(model, 4, seed=1)):
            got = run(model, PROMPT, strategy, seed=3, k=3, lookahead=file, stop=STOP)
            hashes.add(text_hash(model.fingerprint, PROMPT, got.steps, seed=3, stop=STOP))
            accepted.append(got.summary.accepted)
    assert len(hashes) == 1
    assert sum(n > 0 for n in accepted) >= 4
    assert len(hashes.pop()) == HASH_DIGITS


def test_whatever_decides_a_text_is_in_its_hash(model: LanguageModel) -> None:
    steps = run(model, PROMPT, seed=3, stop=STOP).steps
    warmer = [replace(s, settings=replace(s.settings, sampling=SamplingSettings(0.9, 10))) for s in steps]
    narrow, floored = (
        [replace(s, settings=replace(s.settings, sampling=replace(s.settings.sampling, **change))) for s in steps]
        for change in ({"top_p": 0.5}, {"min_p": 0.5})
    )
    fingerprint = model.fingerprint
    hashes = [
        text_hash(fingerprint, PROMPT, steps, seed=3, stop=STOP),
        text_hash("another model", PROMPT, steps, seed=3, stop=STOP),
        text_hash(fingerprint, PROMPT[1:], steps, seed=3, stop=STOP),
        text_hash(fingerprint, PROMPT, steps, seed=4, stop=STOP),
        text_hash(fingerprint, PROMPT, steps, seed=3, stop=StopConditions(33)),
        text_hash(fingerprint, PROMPT, steps, seed=3, stop=StopConditions(32, ("x",))),
        text_hash(fingerprint, PROMPT, steps, seed=3, stop=StopConditions(32, ignore_eos=True)),
        text_hash(fingerprint, PROMPT, warmer, seed=3, stop=STOP),
        text_hash(fingerprint, PROMPT, narrow, seed=3, stop=STOP),
        text_hash(fingerprint, PROMPT, floored, seed=3, stop=STOP),
        text_hash(fingerprint, PROMPT, steps[:-1], seed=3, stop=STOP),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hashes[0] == text_hash(fingerprint, PROMPT, steps, seed=3 + 2**64, stop=STOP)


def test_the_schedule_names_the_token_from_which_on_sampling_changed() -> None:
    cold, warm = (DecodingSettings(sampling=SamplingSettings(t, 10)) for t in (0.2, 1.0))
    steps = [
        step(0, [token(0, "a"), token(1, "b")], settings=cold),
        step(1, [token(2, "c")], settings=replace(cold, k=2)),
        step(2, [token(3, "d")], settings=warm),
        step(3, [], settings=cold),
    ]
    assert sampling_schedule(steps) == ((0, cold.sampling), (3, warm.sampling))
