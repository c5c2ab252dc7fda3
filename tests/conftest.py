"""What all tests share: no display, few threads, and the default model fetched once."""

from __future__ import annotations

import gc
import os
import uuid

# Before anything imports Qt or torch.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pass_core.models.fetch import fetch
from pass_core.models.language_model import LanguageModel
from pass_core.models.loading import load_model, unload
from tests import tiny

# Small matrices gain nothing from more, and a machine that is shared loses.
torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def default_model_dir() -> Path:
    """The default model's folder: from the user's cache, or downloaded and converted now."""
    return fetch()


@pytest.fixture(scope="session")
def default_model(default_model_dir: Path) -> Iterator[LanguageModel]:
    """The default model in float32 on the CPU, shared by all tests: do not change it."""
    model = load_model(device="cpu", dtype="float32")
    yield model
    unload(model)


@pytest.fixture(autouse=True, scope="session")
def _costs_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Cost tables that tests measure never land among the user's."""
    folder = tmp_path_factory.mktemp("cost")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pass_core.runtime.cost.cache_folder", lambda: folder)
        yield


@pytest.fixture(autouse=True)
def _bigrams_apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test reads a model's bigrams anew: which drafts it sees must not depend on the tests before."""
    folder = tmp_path_factory.getbasetemp() / "bigrams" / uuid.uuid4().hex  # made when somebody writes there
    monkeypatch.setattr("pass_core.runtime.bigram_reader.cache_folder", lambda: folder)


@pytest.fixture(autouse=True)
def _nothing_settled() -> Iterator[None]:
    """What a test loaded settles memory: the garbage of the tests after it is to be found all the same."""
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def tiny_model() -> LanguageModel:
    """A tiny Llama with a byte-level tokenizer, shared by all tests: do not change it."""
    return tiny.tiny_llama(tokenizer=True)


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Sets the largest size that this process may give a file (-1: any): beyond it a write fails as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model cache of the test's own."""
    monkeypatch.setenv("PASS_PLAYGROUND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
