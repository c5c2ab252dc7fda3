"""The counting program of docs/tools/gpu, and how many kernels a layer of a captured pass may have."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from pass_core.lookahead.embeddings import LookaheadEmbeddings
from tests import tiny
from tests.core.decoding.engine import ALL_PARTS, random_lookahead

_PROGRAM = Path(__file__).parents[3] / "docs" / "tools" / "gpu" / "kernel_count.py"


@pytest.fixture(scope="module")
def program() -> Any:
    spec = importlib.util.spec_from_file_location("kernel_count", _PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_counts_as_a_kernel(program: Any) -> None:
    x = torch.ones(4, 6)
    with torch.inference_mode(), program.CountKernels() as counter:
        x.view(6, 4).T[1:].unsqueeze(0).expand(3, -1, -1)
        torch.empty(5)
        assert counter.total == 0
        x.add_(1)
        y = x + 1
        y[1:].copy_(x[1:])
        y.addmm_(torch.ones(4, 2), torch.ones(2, 6))
        assert counter.by_name == {"add_": 1, "add": 1, "copy_": 1, "addmm_": 1, "ones": 2}
        torch.addmm(y, torch.ones(4, 2), torch.ones(2, 6))
    assert counter.by_name["addmm"] == counter.by_name["addmm copies what it adds to"] == 1


@pytest.mark.parametrize(("parts", "most"), [(None, 26), (frozenset(), 26), (ALL_PARTS, 39)])
def test_kernels_of_a_layer(program: Any, parts: Any, most: int) -> None:
    """In bfloat16, as a GPU runs it; the difference of two depths, so that what a pass does once does not count."""
    totals: list[int] = []
    for layers in (2, 3):
        model = tiny.tiny_llama(layers=layers, dtype=torch.bfloat16)
        lookahead: LookaheadEmbeddings | None = None if parts is None else random_lookahead(model, 3, parts)
        totals.append(program.kernels(model, lookahead, 8).total())
    assert totals[1] - totals[0] <= most
