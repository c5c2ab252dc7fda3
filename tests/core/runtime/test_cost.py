"""The measured cost of a call: between and beyond the measured points, kept in the user's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pass_core.engine import Engine
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.runtime import cost
from pass_core.runtime.cost import CostModel, measure
from pass_core.runtime.cuda_graphs.graphs import Rerun
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime
from pass_core.runtime.rows import Rows
from pass_core.runtime.torch_runtime import TorchRuntime
from pass_core.settings import LookaheadPart
from tests import tiny
from tests.core.decoding.engine import ALL_PARTS, random_lookahead


def test_linear_between_the_points_and_beyond_the_last() -> None:
    model = CostModel({1: 10.0, 5: 14.0, 9: 14.0, 17: 30.0})
    assert model(1) == model.table(3)[0] == 10.0
    assert model(3) == 12.0
    assert model(7) == 14.0
    assert model(13) == 22.0
    assert model(25) == pytest.approx(46.0)


def test_noise_in_the_measurement_never_makes_more_rows_cheaper() -> None:
    table = CostModel({1: 10.0, 2: 9.0, 4: 12.0, 8: 11.0}).table(20)
    assert table.shape == (21,)
    assert (np.diff(table) >= 0).all()


def test_one_point_is_enough() -> None:
    assert CostModel({1: 3.0})(40) == 3.0


def test_measuring_gives_a_time_for_each_size() -> None:
    model = tiny.tiny_llama()
    got = measure(TorchRuntime(model), rows=(1, 3), context=8, repeats=2, vocabulary=64)
    assert sorted(got.seconds) == [1, 3]
    assert min(got.seconds.values()) > 0


def test_rows_that_are_padded_cost_what_their_bucket_costs() -> None:
    runtime = CudaGraphRuntime(tiny.tiny_llama(), Rerun())
    got = measure(runtime, context=8, repeats=1, vocabulary=64)
    assert set(got.seconds) == {1, 2, 3, 4, 5, 8, 9, 16, 17, 24, 25, 32, 33, 48, 49, 64}
    assert all(got.seconds[a] == got.seconds[b] for a, b in ((3, 4), (5, 8), (9, 16), (49, 64)))


def test_preparing_tells_what_is_captured() -> None:
    model = tiny.tiny_llama()
    runtime = CudaGraphRuntime(model, Rerun())
    engine = Engine(model, runtime=runtime)
    said: list[str] = []
    engine.prepare(progress=lambda report: said.append(report.stage))
    assert "Capturing calls (1 row, 256 slots)" in said
    assert runtime.on_capture is None
    said.clear()
    engine.prepare(progress=lambda report: said.append(report.stage))
    assert said == []


def test_a_measured_table_is_kept_and_a_damaged_one_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Engine(tiny.tiny_llama(), cache=tmp_path).cost
    (path,) = (tmp_path / "cost").iterdir()
    assert path.suffix == ".json"

    def refuse(*_: object, **__: object) -> CostModel:
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(cost, "measure", refuse)
        assert Engine(tiny.tiny_llama(), cache=tmp_path).cost.seconds == pytest.approx(measured.seconds)
    for damaged in ("", "[]", '{"1": "x"}', '{"1": 0.0}'):
        path.write_text(damaged)
        assert Engine(tiny.tiny_llama(), cache=tmp_path).cost.seconds
        assert path.read_text() != damaged


def test_an_engine_keeps_its_table(tmp_path: Path) -> None:
    engine = Engine(tiny.tiny_llama(), cache=tmp_path)
    assert engine.cost is engine.cost


def test_observed_calls_move_the_table_near_them_and_a_disturbed_one_hardly() -> None:
    cost = CostModel({1: 1.0, 8: 2.0, 16: 4.0})
    cost.observe(8, 2.0)
    before = cost.table(16).copy()
    for _ in range(60):
        cost.observe(15, 3.0)
    after = cost.table(16)
    assert after[15] == pytest.approx(3.0, rel=0.02)
    assert after[1] == before[1]
    assert after[8] == before[8]
    cost.observe(8, 1000.0)
    assert cost(8) == pytest.approx(2.0 * 1.05)
    assert cost.seconds == {1: 1.0, 8: 2.0, 16: 4.0}, "what was measured stays"


def test_a_faster_large_call_shows_that_smaller_ones_are_fast_too() -> None:
    cost = CostModel({1: 3.0, 16: 4.0})
    for _ in range(80):
        cost.observe(16, 1.0)
    assert cost(1) == pytest.approx(1.0, rel=0.02)


def test_sizes_not_seen_for_a_while_are_tried_once_each() -> None:
    clock = [100.0]
    cost = CostModel({1: 0.01, 8: 0.02, 16: 0.04}, clock=lambda: clock[0])
    cost.observe(16, 0.04)
    assert [cost.stale((16, 8, 1)) for _ in range(3)] == [8, 1, None]
    clock[0] += 60
    assert [cost.stale((16, 8, 1)) for _ in range(4)] == [16, 8, 1, None]
    # What was not seen for a while is believed at once, or nearly.
    cost.observe(8, 0.01)
    assert cost(8) == pytest.approx(0.015)


def test_a_size_that_is_never_chosen_is_tried_half_as_often_each_time() -> None:
    clock = [0.0]
    cost = CostModel({1: 0.01, 8: 0.02, 16: 0.04}, clock=lambda: clock[0])
    tried: list[int] = []
    for second in range(400):
        clock[0] = float(second)
        cost.observe(16, 0.04)
        if cost.stale((8,)):
            cost.observe(8, 0.02)
            tried.append(second)
    assert tried == [0, 10, 30, 70, 150, 310]


def test_slow_calls_are_looked_at_by_their_number_not_by_the_clock() -> None:
    """A plain look every ten seconds would be a tenth of the calls of a device that takes a second for each."""
    clock = [0.0]
    cost = CostModel({1: 1.0, 8: 2.0}, clock=lambda: clock[0])
    assert cost.stale((1,)) == 1
    cost.observe(1, 1.0)
    clock[0] = 99.0
    assert cost.stale((1,)) is None
    clock[0] = 100.0
    assert cost.stale((1,)) == 1


def test_an_observed_call_moves_its_whole_bucket() -> None:
    cost = CostModel({1: 1.0, 2: 1.5, 8: 1.5, 9: 2.0, 16: 2.0}, buckets=(1, 8, 16))
    for _ in range(80):
        cost.observe(12, 3.0)
    assert cost.table(16)[9:] == pytest.approx([3.0] * 8, rel=0.02)
    assert cost.table(16)[1] == 1.0
    assert cost.table(16)[2:9] == pytest.approx([1.5] * 7)


def test_the_table_of_another_device_or_of_other_parts_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def key(name: str, parts: frozenset[LookaheadPart]) -> None:
        monkeypatch.setattr(cost.torch.cuda, "get_device_name", lambda _: name)
        model = tiny.tiny_llama()
        lookahead = random_lookahead(model, 4, parts)
        monkeypatch.setattr(type(model), "device", torch.device("cuda"))
        names.append(cost._key(model, TorchRuntime(tiny.tiny_llama()), lookahead))  # pyright: ignore[reportPrivateUsage]
        monkeypatch.undo()

    for name in ("NVIDIA H100", "NVIDIA RTX 4090"):
        for parts in (frozenset[LookaheadPart](), ALL_PARTS):
            key(name, parts)
    assert len(set(names)) == 4
    assert all(n.startswith("6-") for n in names)


def test_passes_are_measured_with_look_ahead_rows_and_their_parts() -> None:
    model = tiny.tiny_llama()
    lookahead = random_lookahead(model, 4, ALL_PARTS)
    seen: list[Rows] = []

    class Watched(TorchRuntime):
        def use_lookahead(self, lookahead: LookaheadEmbeddings | None) -> None:
            assert not seen
            used.append(lookahead)
            super().use_lookahead(lookahead)

        def forward(self, cache: Any, rows: Rows) -> torch.Tensor:
            seen.append(rows)
            return super().forward(cache, rows)

    used: list[LookaheadEmbeddings | None] = []
    measure(Watched(model), rows=(1, 8, 24), context=8, repeats=1, vocabulary=64, lookahead=lookahead)
    assert used == [lookahead]
    assert [int((rows.lookahead >= 0).sum()) for rows in seen[1:]] == [0, 4, 12]
    assert [rows.count for rows in seen[1:]] == [1, 8, 24]


def test_what_drafting_takes_on_the_host_is_known_before_the_first_text(tmp_path: Path) -> None:
    engine = Engine(tiny.tiny_llama(), cache=tmp_path)
    engine.prepare()
    measured = engine.cost.host
    assert measured[True] > measured[False] > 0
    assert Engine(tiny.tiny_llama(), cache=tmp_path).cost.host == pytest.approx(measured)


def test_a_device_whose_real_calls_are_dearer_than_measured_ones_settles_at_what_is_seen() -> None:
    """A GPU's flat figures, measured without look-ahead rows; 64 rows, never called again, must not cap the others."""
    cost = CostModel({1: 0.0025, 8: 0.0026, 16: 0.0026, 32: 0.0026, 48: 0.0026, 64: 0.0026})
    for _ in range(20_000):
        cost.observe(16, 0.0045)
        cost.observe(1, 0.0025)
    assert cost(16) == pytest.approx(0.0045, rel=0.02)
    assert cost(1) == pytest.approx(0.0025, rel=0.02)
    assert cost(64) >= cost(16)
    assert np.isfinite(cost.table(64)).all()
    assert (np.diff(cost.table(64)) >= 0).all()


def test_passes_without_look_ahead_rows_are_measured_apart_where_drafts_do_without_them(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    rowless = random_lookahead(model, 4, frozenset({LookaheadPart.STATE}))
    measured = cost.kept_or_measured(model, TorchRuntime(model), tmp_path, rowless)
    assert measured.tokens is not None
    assert measured.tokens_only is measured.tokens
    assert measured.tokens.host is measured.host
    again = cost.kept_or_measured(model, TorchRuntime(model), tmp_path, rowless)
    assert again == measured
    assert again.tokens is not None
    assert again.tokens.seconds == measured.tokens.seconds
    other = cost.kept_or_measured(model, TorchRuntime(model), tmp_path, random_lookahead(model, 4))
    assert other.tokens is None
    assert other.tokens_only is other


def test_a_fresh_table_keeps_the_figures_alone() -> None:
    table = CostModel({1: 1.0, 8: 2.0}, host={True: 0.5}, tokens=CostModel({1: 1.0, 8: 1.5}))
    assert table.tokens is not None
    for _ in range(50):
        table.tokens.observe(8, 3.0)
    fresh = table.fresh()
    assert fresh.tokens is not None
    assert (fresh(8), fresh.tokens(8), fresh.cheapest(8), fresh.host) == (2.0, 1.5, 1.5, {})
    assert table.tokens(8) > 2.0
