"""The ideal guesses against enumeration by hand, and the report as a whole."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.training.acceptance import BEST, ChainSettings, try_chains
from pass_core.training.coupled import among_best, on_drafts
from pass_core.training.floor import ideal_matches
from pass_core.training.parts import parts_of
from pass_core.training.report import DraftReport, draft_report
from pass_core.training.step import frozen
from pass_core.training.store import PrefixStore
from tests import tiny
from tests.core.training.runs import own_corpus, small_config
from tests.core.training.state_runs import shaken_head
from tests.core.training.test_step import shaken

SETTINGS = ChainSettings(3, 0.8, 4)


def processed(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    """[vocabulary] what the model predicts after `ids` at the settings above."""
    with torch.no_grad():
        logits = model.model(torch.tensor([ids])).logits[0, -1] / SETTINGS.temperature
    best = logits.topk(SETTINGS.top_k)
    return torch.zeros_like(logits).scatter(0, best.indices, best.values.softmax(-1))


def by_hand(model: LanguageModel, text: list[int], context: int, j: int, *, known: bool) -> float:
    """The mixture over every way to fill the tokens between, one forward pass for each."""
    hidden = j - 1 if known else j
    mixture = torch.zeros(model.vocabulary_size)
    for between in itertools.product(range(model.vocabulary_size), repeat=hidden):
        weight, ids = 1.0, text[:context]
        for token in (*between, *([text[context + j - 1]] if known else [])):
            weight *= float(processed(model, ids)[token])
            if weight == 0.0:
                break
            ids = [*ids, token]
        if weight:
            mixture += weight * processed(model, ids)
    p = processed(model, text[: context + j])
    if float(mixture.sum()) == 0.0:
        return 0.0
    q = mixture / mixture.sum()
    every = torch.arange(model.vocabulary_size)[None]
    return float(among_best(on_drafts(every, p[None], every), q[None], 1))


def test_ideal_guesses_are_the_mixtures_over_all_that_could_stand_between() -> None:
    model = tiny.tiny_llama(vocabulary=6, peak=2.0)
    text = torch.tensor([1, 4, 2, 0, 3, 5, 1, 2, 2, 4])
    places = [3, 5]
    with frozen(model):
        data = PrefixStore(model, [text], 0).batch([0])
        generator = torch.Generator().manual_seed(0)
        blind, one = ideal_matches(model, data, places, SETTINGS, 400, generator)
    for row, context in enumerate(places):
        assert one[row, 0] == 1.0
        # the first token between is enumerated: exact
        assert float(blind[row, 0]) == pytest.approx(by_hand(model, text.tolist(), context, 1, known=False), abs=1e-4)
        assert float(one[row, 1]) == pytest.approx(by_hand(model, text.tolist(), context, 2, known=True), abs=1e-4)
        # below it, paths are sampled
        assert float(blind[row, 1]) == pytest.approx(by_hand(model, text.tolist(), context, 2, known=False), abs=0.02)
        assert float(one[row, 2]) == pytest.approx(by_hand(model, text.tolist(), context, 3, known=True), abs=0.03)


def test_report_is_consistent_and_written_both_ways(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    corpus = own_corpus(model)
    lookahead = shaken(model).to_lookahead(model)
    report = draft_report(Engine(model), lookahead, corpus.held_out, small_config(evaluate_contexts=40))
    assert report.contexts == 40
    assert len(report.match) == len(report.floor.blind) == 4
    assert report.floor.one_token[0] == 1.0
    assert list(report.accepted) == sorted(report.accepted, reverse=True)
    assert report.recall[0][0] == pytest.approx(report.accepted[0])
    for fewer, more in itertools.pairwise(report.recall):
        assert all(a <= b for a, b in zip(fewer, more, strict=True))
    page, data = tmp_path / "report.md", tmp_path / "report.json"
    report.save(page)
    report.save(data)
    assert json.loads(data.read_text(encoding="utf-8"))["best"] == list(BEST)
    assert DraftReport.from_json(data.read_text(encoding="utf-8")) == report
    lines = page.read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("| ideal guess, blind between |") for line in lines)
    assert sum(line.startswith(f"| {n} |") for n in BEST for line in lines) == len(BEST)


def test_chains_of_fewer_rows_draft_the_same_first_tokens(tmp_path: Path) -> None:
    """So the table by number of look-ahead rows needs no other measurement."""
    model = tiny.tiny_llama()
    corpus = own_corpus(model)
    parts = parts_of(model, shaken(model).to_lookahead(model), None)
    data = PrefixStore(model, [h.ids for h in corpus.held_out], 0).batch([0])
    four, two = (
        try_chains(model, parts, data, [[6, 11, 20]], ChainSettings(k, 0.8, 10, 3), torch.Generator().manual_seed(0))
        for k in (4, 2)
    )
    torch.testing.assert_close(four.siblings[:, :, :2], two.siblings, rtol=1e-4, atol=1e-5)


def test_the_state_head_stands_beside_the_rows(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    corpus = own_corpus(model)
    lookahead = replace(shaken(model).to_lookahead(model), state=shaken_head(model).weights(torch.float32))
    report = draft_report(
        Engine(model), lookahead, corpus.held_out, small_config(evaluate_contexts=40), floor_places=1, floor_repeats=1
    )
    assert report.state is not None
    assert list(report.by_rows) == [0, 1, 2, 3, 4]
    assert report.by_rows[0] == report.state.chain.accepted_per_iteration
    assert report.by_rows[4] == pytest.approx(sum(report.accepted))
    for fewer, more in itertools.pairwise(report.state.recall):
        assert all(a <= b for a, b in zip(fewer, more, strict=True))
    assert report.state.recall[0] == pytest.approx(report.state.chain.by_position)
    assert DraftReport.from_json(report.to_json()) == report
    text = report.to_markdown()
    for words in ("| look-ahead rows | 0 (state head) | 1 | 2 | 3 | 4 |", "gap: what the state head lacks"):
        assert words in text


def test_measuring_can_be_cancelled_within_a_text() -> None:
    model = tiny.tiny_llama()
    corpus = own_corpus(model)
    lookahead = shaken(model).to_lookahead(model)
    cancel = CancelToken()
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        cancel.cancel()

    with pytest.raises(Cancelled):
        draft_report(
            Engine(model), lookahead, corpus.held_out, small_config(evaluate_contexts=8), progress=stop, cancel=cancel
        )
    assert len(seen) == 1
    cancel = CancelToken()
    cancel.cancel()
    data = PrefixStore(model, [h.ids for h in corpus.held_out], 0).batch([0])
    with pytest.raises(Cancelled):
        ideal_matches(model, data, [6], SETTINGS, 1, torch.Generator(), cancel)
