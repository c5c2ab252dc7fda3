"""A GGUF model in several files: any part loads the whole one, and a missing or foreign part is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import pytest
import torch

from pass_core.models import children, convert
from pass_core.models.errors import ModelDamaged, ModelError, ModelNotFound
from pass_core.models.fetch import cached, fetch
from pass_core.models.gguf_header import read_header
from pass_core.models.gguf_parts import merge, parts_of
from pass_core.models.gguf_source import gguf_of
from pass_core.models.loading import load_model
from tests.core.models.gguf_files import gguf_model, write_gguf

IDS = torch.arange(40)[None]
PARTS = 3


@pytest.fixture(autouse=True)
def _here(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert in this process: a child needs longer to start than these files to convert."""
    monkeypatch.setattr(children, "run_job", lambda module, paths, *_: convert.convert_here(*map(Path, paths)))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model in three parts, as gguf's own writer splits it, and the same model in one file."""
    folder = tmp_path_factory.mktemp("parts")
    model = gguf_model()
    (folder / "one").mkdir()
    (folder / "parts").mkdir()
    write_gguf(folder / "one" / "tiny.gguf", model)
    count = len(read_header(folder / "one" / "tiny.gguf").tensors)
    write_gguf(folder / "parts" / "tiny.gguf", model, split=-(-count // PARTS))
    assert len(list((folder / "parts").iterdir())) == PARTS
    return folder


@pytest.fixture
def parts(written: Path, tmp_path: Path) -> list[Path]:
    shutil.copytree(written / "parts", tmp_path / "parts")
    return sorted((tmp_path / "parts").iterdir())


def test_any_part_loads_the_whole_model_and_once(parts: list[Path]) -> None:
    folder = fetch(parts[1])
    assert {fetch(p) for p in parts} == {folder}
    assert cached(parts[2]) == folder
    assert fetch(parts[0].parent) == folder
    model = load_model(parts[2], device="cpu", dtype="float32")
    assert model.name == "tiny"
    torch.testing.assert_close(model.model(IDS).logits, gguf_model().model(IDS).logits)


def test_its_blocks_are_kept_for_the_weights_as_in_the_file(parts: list[Path], written: Path) -> None:
    kept = gguf_of(fetch(parts[0]))
    assert kept is not None
    joined, whole = gguf.GGUFReader(kept), gguf.GGUFReader(written / "one" / "tiny.gguf")
    assert [(t.name, t.data.tobytes()) for t in joined.tensors] == [(t.name, t.data.tobytes()) for t in whole.tensors]
    ours, theirs = read_header(kept).metadata, read_header(written / "one" / "tiny.gguf").metadata
    assert ours == theirs


def test_a_missing_part_is_named(parts: list[Path]) -> None:
    parts[1].unlink()
    for chosen in (parts[0], parts[2], parts[0].parent):
        with pytest.raises(ModelNotFound, match=r"one of 3 parts.*lacks tiny-00002-of-00003\.gguf"):
            fetch(chosen)


def test_parts_that_do_not_belong_together_are_refused(parts: list[Path], written: Path, private_cache: Path) -> None:
    one = parts[1].read_bytes()
    shutil.copyfile(parts[2], parts[1])
    with pytest.raises(ModelDamaged, match="says that it is part 3 of 3, and its name that it is part 2 of 3"):
        fetch(parts[0])
    shutil.copyfile(written / "one" / "tiny.gguf", parts[1])
    with pytest.raises(ModelDamaged, match="says nothing of parts"):
        fetch(parts[0])
    parts[1].write_bytes(one[:-4000])
    with pytest.raises(ModelDamaged, match="cut short"):
        fetch(parts[0])
    assert [p.name for p in (private_cache / "models").iterdir()] == [".locks"]


def test_a_set_that_lacks_a_tensor_is_refused(parts: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    fewer = gguf_model(layers=1)
    write_gguf(other / "tiny.gguf", fewer, split=-(-(3 + 12) // PARTS))
    assert len(list(other.iterdir())) == PARTS
    shutil.copyfile(other / parts[2].name, parts[2])
    with pytest.raises(ModelError, match="not of one model"):
        merge(parts, tmp_path / "merged.gguf")


@pytest.mark.parametrize("name", ["m-00000-of-00002.gguf", "m-00003-of-00002.gguf", "m-1-of-2.gguf", "m.gguf"])
def test_other_names_are_one_file(name: str, tmp_path: Path) -> None:
    assert parts_of(tmp_path / name) == [tmp_path / name]
