"""What is said of a format is what the file holds."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from pass_core.models.gguf_blocks import GgufBlocks
from pass_core.runtime.exactness import exactness
from tests import tiny
from tests.core.models.test_gguf_blocks import write_llama

Q = gguf.GGMLQuantizationType


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Q.Q4_1, "the GGUF file's own 4-bit blocks (Q4_1), nothing rounded again; activations 16-bit"),
        (Q.Q8_0, "the GGUF file's own 8-bit blocks (Q8_0), nothing rounded again; activations 16-bit"),
        (Q.BF16, "the GGUF file's own weights (BF16), nothing rounded again"),
        (Q.F32, "the GGUF file's own weights (F32), nothing rounded again"),
        (Q.Q5_0, "the GGUF file's own weights (Q5_0), Q5_0 as float32, nothing rounded again"),
    ],
)
def test_blocks(kind: Q, said: str, tmp_path: Path) -> None:
    blocks = GgufBlocks(write_llama(tmp_path / "m.gguf", tiny.tiny_llama(hidden=64, heads=4), kind))
    assert exactness("gguf", blocks) == said


def test_bfloat16_holds_what_is_known_to_be_bfloat16() -> None:
    assert "holds every weight" in exactness("bfloat16", holds=True)
    assert "holds every weight" not in exactness("bfloat16")
    assert "rounded" in exactness("int8")
