"""A quicker conversion writes the same bytes, and leaves transformers as it was."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import modeling_gguf_pytorch_utils as reading

from pass_core.models import children, convert
from pass_core.models.gguf_shared import shared_parts
from tests.core.models.gguf_files import gguf_model, write_gguf


def converted(source: Path, folder: Path) -> dict[str, bytes]:
    """What a conversion writes, by the files' names."""
    folder.mkdir(parents=True)
    convert.convert_here(source, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_files_as_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_gguf(tmp_path / "tiny.gguf", gguf_model())
    monkeypatch.setattr(children, "say", lambda **_: None)
    quick = converted(source, tmp_path / "quick" / "model")
    monkeypatch.setattr(convert, "shared_parts", contextlib.nullcontext)
    plain = converted(source, tmp_path / "plain" / "model")
    assert quick == plain
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(quick)


def test_metadata_are_read_once_and_every_reader_gets_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_gguf(tmp_path / "tiny.gguf", gguf_model())
    genuine: Any = reading.load_gguf_checkpoint
    expected = genuine(str(source))
    reads: list[object] = []

    def counted(*args: Any, **more: Any) -> Any:
        reads.append(args)
        return genuine(*args, **more)

    monkeypatch.setattr(reading, "load_gguf_checkpoint", counted)
    with shared_parts():
        first: Any = reading.load_gguf_checkpoint(str(source))
        first["config"].clear()
        first["tokenizer"]["tokens"].append("another")
        assert reading.load_gguf_checkpoint(str(source), return_tensors=False) == expected
    assert len(reads) == 1


def test_afterwards_all_is_as_before() -> None:
    def state() -> tuple[Any, ...]:
        return (
            gguf.GGUFReader,
            gguf.get_tensor_name_map,
            reading.load_gguf_checkpoint,
            vars(reading)["_gguf_parse_value"],
        )

    before = state()
    with contextlib.suppress(RuntimeError), shared_parts():
        assert all(a is not b for a, b in zip(before, state(), strict=True))
        raise RuntimeError
    assert state() == before
