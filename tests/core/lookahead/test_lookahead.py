"""Look-ahead files: written, read back, and refused with an error of its own, naming both sides, when wrong."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pass_core.lookahead.embeddings import (
    FORMAT_VERSION,
    AdapterWeights,
    LookaheadEmbeddings,
    SamplerWeights,
    TrainingSummary,
    mean_embedding,
)
from pass_core.lookahead.errors import (
    DtypeMismatch,
    FileNotFound,
    HiddenSizeMismatch,
    LookaheadCountMismatch,
    LookaheadError,
    ModelMismatch,
    NonFiniteValues,
    NotALookaheadFile,
    PartMismatch,
    TruncatedFile,
    UnsupportedVersion,
)
from pass_core.lookahead.format import load_lookahead
from pass_core.models.language_model import LanguageModel
from pass_core.settings import LookaheadPart, Strategy
from tests import tiny
from tests.core.decoding.engine import EVERY_PART, random_lookahead, run

L, HIDDEN = 3, 8


class Harmful:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("harmful.txt", "w"))


@pytest.fixture
def model() -> LanguageModel:
    return tiny.tiny_llama(vocabulary=12)


@pytest.fixture
def whole(model: LanguageModel) -> LookaheadEmbeddings:
    """All parts, and everything known about them."""
    made = random_lookahead(model, L, EVERY_PART)
    return LookaheadEmbeddings(
        made.embeddings,
        made.deep,
        made.adapters,
        made.sampler,
        made.state,
        base_model="tiny-llama",
        base_fingerprint=model.fingerprint,
        training=TrainingSummary(10, 2000, "prose and code", "pass-core train", (0.5, 0.25, 0.125), 0.75, 0.9, 20),
    )


def plain() -> torch.Tensor:
    return torch.arange(L * HIDDEN, dtype=torch.float32).reshape(L, HIDDEN) / 7


def write(path: Path, tensors: dict[str, torch.Tensor] | None = None, **metadata: str) -> Path:
    """A file of our format, with some of its metadata replaced."""
    header = {
        "format": "pass-lookahead",
        "format_version": str(FORMAT_VERSION),
        "hidden_size": str(HIDDEN),
        "lookahead": str(L),
    }
    save_file(tensors or {"lookahead": plain()}, path, metadata=header | metadata)
    return path


# --- there and back


def test_everything_comes_back(whole: LookaheadEmbeddings, tmp_path: Path) -> None:
    whole.save(tmp_path / "a.safetensors", dtype=None)
    back = load_lookahead(tmp_path / "a.safetensors")
    assert back.tensors().keys() == whole.tensors().keys()
    assert all(torch.equal(back.tensors()[n], t) for n, t in whole.tensors().items())
    assert back.training == whole.training
    assert (back.base_model, back.base_fingerprint) == (whole.base_model, whole.base_fingerprint)
    assert back.trained
    assert (back.count, back.hidden_size) == (L, 32)
    assert [p.name for p in back.parts()] == ["embeddings", "deep", "adapter", "sampler", "state"]
    assert sum(p.parameters for p in back.parts()) == sum(t.numel() for t in whole.tensors().values())


def test_files_are_bfloat16_by_default_and_small(whole: LookaheadEmbeddings, tmp_path: Path) -> None:
    whole.save(tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    ids = tensors.pop("state.vocabulary")
    assert whole.state is not None
    assert (ids.dtype, ids.tolist()) == (torch.int32, whole.state.vocabulary.tolist())
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
    assert torch.equal(tensors["lookahead"], whole.embeddings.bfloat16())


def test_saving_replaces_the_file_at_once_and_leaves_nothing_else(whole: LookaheadEmbeddings, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.safetensors"
    path.parent.mkdir()
    path.write_text("an older file")
    whole.save(path)
    assert load_lookahead(path).count == L
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


def test_a_failed_save_keeps_the_older_file(
    whole: LookaheadEmbeddings, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    path = tmp_path / "a.safetensors"
    whole.save(path)
    before = path.read_bytes()
    small_files(100)
    with pytest.raises(OSError, match="the disk is full"):
        whole.save(path)
    small_files(-1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_drafts_are_the_same_from_the_file(model: LanguageModel, whole: LookaheadEmbeddings, tmp_path: Path) -> None:
    whole.save(tmp_path / "a.safetensors", dtype=None)
    back = load_lookahead(tmp_path / "a.safetensors")
    one, other = (run(model, [1, 2], Strategy.FUSED, k=L, lookahead=x) for x in (whole, back))
    assert [[d.id for d in s.drafts] for s in one.steps] == [[d.id for d in s.drafts] for s in other.steps]


def test_parts_can_be_switched_off(whole: LookaheadEmbeddings) -> None:
    assert whole.without(frozenset()) is whole
    for part, name in (
        (LookaheadPart.DEEP, "deep"),
        (LookaheadPart.ADAPTER, "adapter"),
        (LookaheadPart.SAMPLER, "sampler"),
        (LookaheadPart.STATE, "state"),
    ):
        left = whole.without(frozenset({part}))
        assert {p.name for p in whole.parts()} - {p.name for p in left.parts()} == {name}
        assert left.training == whole.training


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".npy", ".npz"])
def test_bare_tensors_are_read_as_base_model_unknown(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bare{suffix}"
    if suffix == ".safetensors":
        save_file({"anything": plain(), "bias": torch.zeros(3)}, path)
    elif suffix in (".pt", ".pth"):
        torch.save(plain() if suffix == ".pt" else {"step": 3, "la": plain()}, path)
    elif suffix == ".npy":
        np.save(path, plain().numpy())
    else:
        np.savez(path, lookahead=plain().numpy(), other=np.zeros((2, 2)))
    got = load_lookahead(path)
    assert torch.equal(got.embeddings.float(), plain())
    assert (got.base_model, got.base_fingerprint, got.trained) == ("", "", False)
    assert got.origin == str(path)


def test_parameters_come_back_without_a_gradient(tmp_path: Path) -> None:
    torch.save(torch.nn.Parameter(plain()), tmp_path / "p.pt")
    assert not load_lookahead(tmp_path / "p.pt").embeddings.requires_grad


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.longdouble, ">f4"])
def test_numpy_numbers_of_any_width_and_byte_order(dtype: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", plain().numpy().astype(dtype))
    assert torch.allclose(load_lookahead(tmp_path / "a.npy").embeddings.float(), plain(), atol=2e-3)


def test_the_mean_embedding_is_labelled_untrained() -> None:
    table = torch.randn(50, HIDDEN, generator=torch.Generator().manual_seed(1)).bfloat16() + 2
    made = mean_embedding(table, 4, base_model="m", base_fingerprint="f")
    assert made.embeddings.shape == (4, HIDDEN)
    assert made.embeddings.dtype == torch.float32
    assert not made.trained
    assert "untrained" in made.origin
    assert (made.embeddings - table.float().mean(0)).abs().max() < table.float().std()
    assert len({tuple(row.tolist()) for row in made.embeddings}) == 4
    assert torch.equal(made.embeddings, mean_embedding(table, 4).embeddings)


# --- what is wrong with a file


def refusal(path: Path) -> LookaheadError:
    with pytest.raises(LookaheadError) as caught:
        load_lookahead(path)
    assert path.name in str(caught.value)
    return caught.value


def test_no_file(tmp_path: Path) -> None:
    assert type(refusal(tmp_path / "none.safetensors")) is FileNotFound
    (tmp_path / "folder.safetensors").mkdir()
    assert type(refusal(tmp_path / "folder.safetensors")) is FileNotFound


@pytest.mark.parametrize("name", ["a.gguf", "a.bin", "a"])
def test_other_kinds_of_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert type(refusal(tmp_path / name)) is NotALookaheadFile


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".npy", ".npz"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.97])
def test_truncated_files(suffix: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    big = torch.randn(8, 64)
    if suffix == ".safetensors":
        save_file({"lookahead": big}, path)
    elif suffix == ".pt":
        torch.save(big, path)
    elif suffix == ".npy":
        np.save(path, big.numpy())
    else:
        np.savez(path, lookahead=big.numpy())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert type(refusal(path)) is TruncatedFile


def test_noise_instead_of_a_header(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(np.random.default_rng(0).bytes(500))
    assert type(refusal(path)) is TruncatedFile


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pickles_that_carry_code_are_refused_and_not_run(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"lookahead": plain(), "x": Harmful()}, tmp_path / f"zip{suffix}")
    (tmp_path / f"old{suffix}").write_bytes(pickle.dumps(Harmful(), protocol=2))
    for name in ("zip", "old"):
        error = refusal(tmp_path / f"{name}{suffix}")
        assert type(error) is NotALookaheadFile
        assert "code" in str(error)
    assert not (tmp_path / "harmful.txt").exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_of_python_objects_are_refused_and_not_run(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    array = np.array([[Harmful()]], dtype=object)
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"a{suffix}", array, allow_pickle=True)
    assert type(refusal(tmp_path / f"a{suffix}")) is NotALookaheadFile
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Harmful(), protocol=2))
    assert type(refusal(tmp_path / "raw.npy")) is NotALookaheadFile
    assert not (tmp_path / "harmful.txt").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("tensor", ["lookahead", "deep"])
def test_values_that_are_not_finite(value: float, tensor: str, tmp_path: Path) -> None:
    tensors = {"lookahead": plain(), "deep": torch.zeros(2, L, HIDDEN)}
    tensors[tensor].view(-1)[5] = value
    error = refusal(write(tmp_path / "a.safetensors", tensors))
    assert type(error) is NonFiniteValues
    assert tensor in str(error)
    assert " 1 " in str(error)


def test_bare_values_that_are_not_finite(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 4), np.nan))
    assert type(refusal(tmp_path / "a.npy")) is NonFiniteValues


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".npy"])
def test_whole_numbers_are_no_embeddings(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    numbers = torch.ones(2, 4, dtype=torch.int64)
    if suffix == ".safetensors":
        save_file({"lookahead": numbers}, path)
    elif suffix == ".pt":
        torch.save(numbers, path)
    else:
        np.save(path, numbers.numpy())
    error = refusal(path)
    assert type(error) is DtypeMismatch
    assert "int64" in str(error)
    assert "floating" in str(error)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (0, 4), (3, 0), (65, 4)])
def test_shapes_that_are_no_list_of_embeddings(shape: tuple[int, ...], tmp_path: Path) -> None:
    save_file({"lookahead": torch.zeros(shape)}, tmp_path / "a.safetensors")
    error = refusal(tmp_path / "a.safetensors")
    assert type(error) is NotALookaheadFile
    assert "hidden" in str(error)


def test_several_tensors_without_a_name(tmp_path: Path) -> None:
    save_file({"a": plain(), "b": plain().clone()}, tmp_path / "a.safetensors")
    assert "lookahead" in str(refusal(tmp_path / "a.safetensors"))
    torch.save([1, 2], tmp_path / "a.pt")
    assert "list" in str(refusal(tmp_path / "a.pt"))


@pytest.mark.parametrize("version", ["2", "999", "", "one"])
def test_a_newer_format_version_names_both(version: str, tmp_path: Path) -> None:
    error = refusal(write(tmp_path / "a.safetensors", format_version=version))
    assert type(error) is UnsupportedVersion
    assert version in str(error)
    assert str(FORMAT_VERSION) in str(error)


def test_another_l_in_the_header_names_both(tmp_path: Path) -> None:
    error = refusal(write(tmp_path / "a.safetensors", lookahead="7"))
    assert type(error) is LookaheadCountMismatch
    assert "7" in str(error)
    assert str(L) in str(error)


def test_another_hidden_size_in_the_header_names_both(tmp_path: Path) -> None:
    error = refusal(write(tmp_path / "a.safetensors", hidden_size="16"))
    assert type(error) is HiddenSizeMismatch
    assert "16" in str(error)
    assert str(HIDDEN) in str(error)


def test_a_file_without_embeddings(tmp_path: Path) -> None:
    assert type(refusal(write(tmp_path / "a.safetensors", {"deep": torch.zeros(2, L, HIDDEN)}))) is NotALookaheadFile


STATE_HEAD = {
    f"state.{layer}.{name}": torch.zeros(shape)
    for layer in ("guess", "fit")
    for name, shape in (("in.weight", (4, 2 * HIDDEN)), ("step", (L, 4)), ("out.weight", (HIDDEN, 4)))
}


BROKEN_PARTS: dict[str, dict[str, torch.Tensor]] = {
    "deep for another L": {"deep": torch.zeros(2, L + 1, HIDDEN)},
    "deep of two dimensions": {"deep": torch.zeros(L, HIDDEN)},
    "half an adapter": {"adapter.layers.0.mlp.up_proj.down": torch.zeros(2, HIDDEN)},
    "adapter ranks that differ": {
        "adapter.layers.0.mlp.up_proj.down": torch.zeros(2, HIDDEN),
        "adapter.layers.0.mlp.up_proj.up": torch.zeros(HIDDEN, 3),
    },
    "a sampler without its output": {
        "sampler.in.weight": torch.zeros(4, 2 * HIDDEN),
        "sampler.step": torch.zeros(L, 4),
    },
    "a sampler for another L": {
        "sampler.in.weight": torch.zeros(4, 2 * HIDDEN),
        "sampler.step": torch.zeros(L + 1, 4),
        "sampler.out.weight": torch.zeros(HIDDEN, 4),
    },
    "half a state head": {
        "state.guess.in.weight": torch.zeros(4, 2 * HIDDEN),
        "state.guess.step": torch.zeros(L, 4),
        "state.guess.out.weight": torch.zeros(HIDDEN, 4),
    },
    "a state head of two depths": {
        "state.guess.in.weight": torch.zeros(4, 2 * HIDDEN),
        "state.guess.step": torch.zeros(L, 4),
        "state.guess.out.weight": torch.zeros(HIDDEN, 4),
        "state.fit.in.weight": torch.zeros(4, 2 * HIDDEN),
        "state.fit.step": torch.zeros(L - 1, 4),
        "state.fit.out.weight": torch.zeros(HIDDEN, 4),
    },
    "a state head without a draft vocabulary": STATE_HEAD,
    "a draft vocabulary without a state head": {"state.vocabulary": torch.arange(3, dtype=torch.int32)},
    "a draft vocabulary of numbers": STATE_HEAD | {"state.vocabulary": torch.arange(3.0)},
    "an empty draft vocabulary": STATE_HEAD | {"state.vocabulary": torch.zeros(0, dtype=torch.int32)},
    "a draft vocabulary in two dimensions": STATE_HEAD | {"state.vocabulary": torch.zeros(1, 2, dtype=torch.int32)},
    "a draft vocabulary that falls": STATE_HEAD | {"state.vocabulary": torch.tensor([2, 1], dtype=torch.int32)},
    "a draft vocabulary with a token twice": STATE_HEAD | {"state.vocabulary": torch.tensor([1, 1], dtype=torch.int32)},
    "a draft vocabulary below 0": STATE_HEAD | {"state.vocabulary": torch.tensor([-1, 1], dtype=torch.int32)},
    "a sampler for another hidden size": {
        "sampler.in.weight": torch.zeros(4, HIDDEN),
        "sampler.step": torch.zeros(L, 4),
        "sampler.out.weight": torch.zeros(HIDDEN, 4),
    },
}


@pytest.mark.parametrize("name", BROKEN_PARTS)
def test_parts_that_do_not_fit_the_embeddings(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"lookahead": plain()} | BROKEN_PARTS[name])
    assert type(refusal(path)) is PartMismatch


def test_a_damaged_training_record_does_not_matter(tmp_path: Path) -> None:
    for damaged in ("{", "[]", json.dumps({"acceptance": 3}), json.dumps({"steps": 5, "later field": 1})):
        got = load_lookahead(write(tmp_path / "a.safetensors", training=damaged))
        assert torch.equal(got.embeddings, plain())


# --- does it fit this model?


def misfit(lookahead: LookaheadEmbeddings, model: LanguageModel) -> LookaheadError:
    with pytest.raises(LookaheadError) as caught:
        run(model, [1, 2], Strategy.FUSED, lookahead=lookahead)
    assert model.name in str(caught.value)
    return caught.value


def test_another_hidden_size_than_the_models(model: LanguageModel) -> None:
    error = misfit(LookaheadEmbeddings(plain()), model)
    assert type(error) is HiddenSizeMismatch
    assert "8" in str(error)
    assert "32" in str(error)


def test_another_models_fingerprint(whole: LookaheadEmbeddings, model: LanguageModel) -> None:
    other = tiny.tiny_llama(vocabulary=12, seed=1)
    assert other.fingerprint != model.fingerprint
    error = misfit(whole, other)
    assert type(error) is ModelMismatch
    assert whole.base_fingerprint in str(error)
    assert other.fingerprint in str(error)


def test_a_draft_vocabulary_beyond_the_models(model: LanguageModel) -> None:
    state = random_lookahead(model, L, frozenset({LookaheadPart.STATE})).state
    assert state is not None
    beyond = replace(state, vocabulary=torch.tensor([1, 12]))
    error = misfit(LookaheadEmbeddings(torch.zeros(L, 32), state=beyond), model)
    assert type(error) is PartMismatch
    assert "token 12" in str(error)


def test_deep_vectors_for_another_number_of_layers(model: LanguageModel) -> None:
    error = misfit(LookaheadEmbeddings(torch.zeros(L, 32), deep=torch.zeros(5, L, 32)), model)
    assert type(error) is PartMismatch
    assert "5" in str(error)
    assert "2" in str(error)


@pytest.mark.parametrize(
    ("linear", "outputs", "inputs"), [("layers.9.mlp.up_proj", 64, 32), ("layers.0.mlp.up_proj", 64, 31)]
)
def test_adapters_for_other_layers(linear: str, outputs: int, inputs: int, model: LanguageModel) -> None:
    adapters = {linear: AdapterWeights(torch.zeros(2, inputs), torch.zeros(outputs, 2))}
    error = misfit(LookaheadEmbeddings(torch.zeros(L, 32), adapters=adapters), model)
    assert type(error) is PartMismatch
    assert linear in str(error)


def test_adapters_fit_every_family() -> None:
    """GPT-2 keeps its linear weights the other way round."""
    for make in tiny.FAMILIES.values():
        model = make(vocabulary=12)
        lookahead = random_lookahead(model, L, EVERY_PART)
        lookahead.check(model)


def test_a_file_of_unknown_origin_is_taken_where_it_fits(model: LanguageModel) -> None:
    sampler = SamplerWeights(torch.zeros(4, 64), torch.zeros(L, 4), torch.zeros(32, 4))
    lookahead = LookaheadEmbeddings(torch.zeros(L, 32), sampler=sampler)
    assert run(model, [1, 2], Strategy.FUSED, lookahead=lookahead).ids == run(model, [1, 2]).ids
