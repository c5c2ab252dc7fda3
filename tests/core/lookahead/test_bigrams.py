"""The model's own bigrams as vectors: their formula, tokens without one, and their file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pass_core.lookahead.bigrams import COMMON, WEIGHT, Bigrams


@pytest.fixture
def states() -> torch.Tensor:
    return torch.randn(5000, 8, generator=torch.Generator().manual_seed(1)).bfloat16()


def test_the_vectors_are_those_of_the_product_of_experts(states: torch.Tensor) -> None:
    head = torch.randn(30, 8, generator=torch.Generator().manual_seed(2))
    guess = torch.randn(8, generator=torch.Generator().manual_seed(3))
    bigrams = Bigrams.of_states(states.clone())
    log_p = (states.float() @ head.T).log_softmax(-1)
    joined = (head @ guess).log_softmax(-1) + WEIGHT * (log_p[4321] - COMMON * log_p[:2048].mean(0))
    ours = head @ (guess + bigrams.after(torch.tensor([4321]))[0].float())
    assert torch.allclose(ours.log_softmax(-1), joined.log_softmax(-1), atol=0.05)


def test_tokens_without_a_vector_leave_the_state_as_it_is(states: torch.Tensor) -> None:
    bigrams = Bigrams(states)
    assert bigrams.known == 5000
    assert bigrams.nbytes == 5000 * 8 * 2
    after = bigrams.after(torch.tensor([4999, 5000, 49151, 0]))
    assert torch.equal(after[[0, 3]], states[[4999, 0]])
    assert not after[1:3].any()


def test_a_file_gives_them_back_and_a_broken_one_nothing(states: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "b.safetensors"
    Bigrams(states).save(path)
    loaded = Bigrams.load(path, hidden_size=8, vocabulary_size=6000)
    assert loaded is not None
    assert torch.equal(loaded.shifts, states)
    assert list(path.parent.iterdir()) == [path]
    assert Bigrams.load(path, hidden_size=9, vocabulary_size=6000) is None
    assert Bigrams.load(path, hidden_size=8, vocabulary_size=4000) is None
    assert Bigrams.load(tmp_path / "none.safetensors", hidden_size=8, vocabulary_size=6000) is None
    path.write_bytes(path.read_bytes()[:200])
    assert Bigrams.load(path, hidden_size=8, vocabulary_size=6000) is None


def test_a_folder_that_cannot_be_written_loses_nothing(states: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    Bigrams(states).save(tmp_path / "file" / "b.safetensors")
    assert (tmp_path / "file").read_text() == "not a folder"
