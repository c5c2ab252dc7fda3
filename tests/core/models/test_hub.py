"""Downloads from a hub, against a small real HTTP server that speaks its protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from pass_core.models import hub
from pass_core.models.errors import ModelGated, ModelNotFound, ModelOffline, ModelUnsupported
from pass_core.models.fetch import cached, fetch
from pass_core.models.loading import load_model
from pass_core.progress import Cancelled, CancelToken, Progress
from tests import tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves repositories from memory; `requests` lists what was asked, `hold` stops weights half-way until `go`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.hold = False
        self.half_sent = threading.Event()
        self.go = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0].strip("/")
        self.server.requests.append(path)
        if path.startswith("api/models/"):
            repo, _, rest = path.removeprefix("api/models/").partition("/tree/")
            repo = repo.split("/revision/")[0]
            self._api(repo, tree=bool(rest))
        elif "/resolve/" in path:
            repo, _, rest = path.partition("/resolve/")
            self._file(repo, rest.partition("/")[2], body)
        else:
            self._send(404, {}, b"")

    def _api(self, repo: str, tree: bool) -> None:
        if repo == "some/gated":
            self._send(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"}, b"{}")
            return
        files = self.server.repos.get(repo)
        if files is None:
            self._send(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such repository"}, b"{}")
        elif tree:
            listing = [{"type": "file", "path": n, "size": len(d), "oid": _etag(d)} for n, d in files.items()]
            self._send(200, {"Content-Type": "application/json"}, json.dumps(listing).encode())
        else:
            siblings = [{"rfilename": n, "size": len(d), "blobId": _etag(d)} for n, d in files.items()]
            info = {"_id": "1", "id": repo, "modelId": repo, "sha": COMMIT, "private": False, "siblings": siblings}
            self._send(200, {"Content-Type": "application/json"}, json.dumps(info).encode())

    def _file(self, repo: str, name: str, body: bool) -> None:
        data = self.server.repos[repo][name]
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if not body or not (self.server.hold and name.endswith(".safetensors")):
            self._send(200, headers, data, body)
            return
        self._send(200, headers | {"Content-Length": str(len(data))}, data[: len(data) // 2])
        self.wfile.flush()
        self.server.half_sent.set()
        self.server.go.wait(30)

    def _send(self, status: int, headers: dict[str, str], data: bytes, body: bool = True) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path_factory.mktemp("hub") / "m")
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def server(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.constants as constants

    server = Hub()
    junk = {"README.md": b"words", "onnx/model.onnx": b"x" * 1000, "consolidated.safetensors": b"y" * 1000}
    server.repos["some/model"] = files | junk
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    # The children read the environment; this process has read it already.
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server
    server.go.set()
    server.shutdown()
    server.server_close()
    thread.join()


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
    asked = {path.rpartition("/")[2] for path in server.requests if "/resolve/" in path}
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
