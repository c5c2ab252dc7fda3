"""Downloads from a hub, against a small real HTTP server that speaks its protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pass_core.models import hub
from pass_core.models.errors import ModelGated, ModelNotFound, ModelOffline, ModelUnsupported
from pass_core.models.fetch import cached, fetch
from pass_core.models.loading import load_model
from pass_core.progress import Cancelled, CancelToken, Progress
from tests import tiny
from tests.core.models.hub_server import Hub, serving


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path_factory.mktemp("hub") / "m")
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def server(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(tmp_path / "hub", monkeypatch) as server:
        junk = {"README.md": b"words", "onnx/model.onnx": b"x" * 1000, "consolidated.safetensors": b"y" * 1000}
        server.repos["some/model"] = files | junk
        yield server


def test_a_repository_is_downloaded_once_and_loads_without_the_network(server: Hub) -> None:
    assert cached("some/model") is None
    seen: list[Progress] = []
    model = load_model("some/model", device="cpu", dtype="float32", progress=seen.append)
    original = tiny.tiny_llama(tokenizer=True)
    assert (model.name, model.source) == ("model", "some/model")
    assert model.fingerprint == original.fingerprint
    ids = torch.arange(20)[None]
    torch.testing.assert_close(model.model(ids).logits, original.model(ids).logits)
    downloading = [p for p in seen if p.stage == "Downloading some/model"]
    assert all(p.unit == "B" for p in downloading)
    assert [p.done for p in downloading] == sorted(p.done for p in downloading)
    assert downloading[-1].done == downloading[-1].total
    asked = server.downloads()
    assert "model.safetensors" in asked
    assert not asked & {"model.onnx", "consolidated.safetensors", "README.md"}
    server.requests.clear()
    assert fetch("some/model") == cached("some/model")
    assert server.requests == []


def test_a_download_can_be_cancelled_in_the_middle_of_a_file(server: Hub) -> None:
    server.hold = True
    cancel = CancelToken()
    user = threading.Thread(target=lambda: server.half_sent.wait(60) and cancel.cancel())
    user.start()
    with pytest.raises(Cancelled):
        hub.download_snapshot("some/model", None, cancel)
    user.join()
    assert cached("some/model") is None
    server.hold = False
    server.go.set()
    assert hub.weights_complete(fetch("some/model"))


def test_missing_gated_and_useless_repositories_are_told_apart(server: Hub) -> None:
    with pytest.raises(ModelNotFound, match="no model some/thing on the hub"):
        fetch("some/thing")
    with pytest.raises(ModelGated, match="Accept its licence"):
        fetch("some/gated")
    server.repos["some/gguf"] = {"model.Q4.gguf": b"GGUF"}
    with pytest.raises(ModelUnsupported, match="GGUF files only"):
        fetch("some/gguf")
    server.repos["some/data"] = {"data.csv": b"1,2"}
    with pytest.raises(ModelUnsupported, match="no transformers model"):
        fetch("some/data")
    server.repos["some/empty"] = {"config.json": b"{}"}
    with pytest.raises(ModelUnsupported, match="no weights"):
        fetch("some/empty")


def test_an_unreachable_hub_is_said_plainly(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelOffline, match="the hub cannot be reached"):
        fetch("some/model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelOffline, match="the hub cannot be reached"):
        fetch("some/model")


def test_sharded_weights_count_as_whole_only_with_every_shard(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    assert not hub.weights_complete(tmp_path)
    (tmp_path / "model-2.safetensors").write_bytes(b"")
    assert hub.weights_complete(tmp_path)
