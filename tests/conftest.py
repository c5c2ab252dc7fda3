"""What all tests share: no display, few threads, and the default model fetched once."""

from __future__ import annotations

import gc
import os
import shutil

# Before anything imports Qt or torch.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pass_core.files import CACHE_VARIABLE
from pass_core.models.fetch import fetch
from pass_core.models.language_model import LanguageModel
from pass_core.models.loading import load_model, unload
from pass_core.models.storage import models_folder
from tests import tiny

# Small matrices gain nothing from more, and a machine that is shared loses: with `-n` by the workers beside this one.
# Tests of several threads set their number.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads()))


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
def _caches_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What tests measure and read never lands in the user's cache; the models there serve the tests, too."""
    models = models_folder()
    models.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").symlink_to(models, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _bigrams_apart(_caches_apart: Path) -> None:
    """Every test reads a model's bigrams anew: which drafts it sees must not depend on the tests before."""
    shutil.rmtree(_caches_apart / "bigrams", ignore_errors=True)


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
