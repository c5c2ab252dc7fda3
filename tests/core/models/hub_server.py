"""A small real HTTP server that speaks as much of the Hugging Face hub's protocol as its client needs here."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_this_test"
LARGE = (".safetensors",)  # what the hub keeps outside git


class Hub(ThreadingHTTPServer):
    """Serves repositories from memory.

    Attributes:
        repos: files of each repository.
        listed: what the hub claims of a file by name, instead of the truth: {"size": …} or {"sha256": …}.
        requests: what was asked, as "path"; sent: bytes of answers' bodies by path.
        hold: stops .safetensors files half-way until `go`.
        uploaded: bodies that were put, by SHA-256.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.listed: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.sent: dict[str, int] = {}
        self.uploaded: dict[str, bytes] = {}
        self.hold = False
        self.half_sent = threading.Event()
        self.go = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def downloads(self) -> set[str]:
        """Names of the files that were asked for."""
        return {path.rpartition("/")[2] for path in self.requests if "/resolve/" in path}


@contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Hub]:
    """A hub that this process and its children use, with an empty cache in `folder`."""
    import huggingface_hub.constants as constants

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    # The children read the environment; this process has read it already.
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    yield server
    server.go.set()
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_PUT(self) -> None:
        data = self._body()
        self.server.uploaded[hashlib.sha256(data).hexdigest()] = data
        self._send(200, {}, b"")

    def do_POST(self) -> None:
        path, data = self.path.split("?")[0].strip("/"), self._body()
        self.server.requests.append(path)
        if path == "api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {}, b"{}")
        elif path == "api/repos/create":
            asked = json.loads(data)
            repo = "/".join(p for p in (asked.get("organization"), asked["name"]) if p)
            self.server.repos.setdefault(repo, {})
            self._json({"url": f"{self.server.url}/{repo}", "name": repo, "id": repo})
        elif path.endswith("/preupload/main"):
            names = [f["path"] for f in json.loads(data)["files"]]
            modes = ["lfs" if n.endswith(LARGE) else "regular" for n in names]
            files = [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in zip(names, modes, strict=True)]
            self._json({"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(data)["objects"]
            for wanted in objects:
                wanted["actions"] = {"upload": {"href": f"{self.server.url}/up/{wanted['oid']}"}}
            self._json({"objects": objects, "transfer": "basic"})
        elif path.endswith("/commit/main"):
            repo = path.removeprefix("api/models/").removesuffix("/commit/main")
            for line in data.splitlines():
                self._take(self.server.repos[repo], json.loads(line))
            self._json({"commitUrl": f"{self.server.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._send(404, {}, b"{}")

    def _take(self, files: dict[str, bytes], line: dict[str, Any]) -> None:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = self.server.uploaded[value["oid"]]

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _answer(self, body: bool) -> None:
        path = unquote(self.path.split("?")[0]).strip("/")
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
            return
        entries = [(name, self._entry(name, data)) for name, data in files.items()]
        if tree:
            self._json([{"type": "file", "path": n, "oid": e["blobId"], **e} for n, e in entries])
        else:
            siblings = [{"rfilename": n, **e} for n, e in entries]
            self._json({"_id": "1", "id": repo, "modelId": repo, "sha": COMMIT, "private": False, "siblings": siblings})

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        """What the hub lists of a file."""
        claimed = self.server.listed.get(name, {})
        entry: dict[str, Any] = {"size": claimed.get("size", len(data)), "blobId": git_hash(data)}
        if name.endswith(LARGE):
            sha256 = claimed.get("sha256", hashlib.sha256(data).hexdigest())
            entry["lfs"] = {"sha256": sha256, "oid": sha256, "size": entry["size"], "pointerSize": 130}
        return entry

    def _file(self, repo: str, name: str, body: bool) -> None:
        data = self.server.repos[repo].get(name)
        if data is None:
            self._send(404, {"X-Error-Code": "EntryNotFound"}, b"")
            return
        headers = {"ETag": f'"{git_hash(data)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        status, asked = 200, self.headers.get("Range", "")
        if asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(len(data) - 1, int(last)) if last else len(data) - 1
            headers["Content-Range"] = f"bytes {first}-{end}/{len(data)}"
            status, data = 206, data[int(first) : end + 1]
        if not body or status == 206 or not (self.server.hold and name.endswith(".safetensors")):
            self._send(status, headers, data, body)
            return
        self._send(200, headers | {"Content-Length": str(len(data))}, data[: len(data) // 2])
        self.wfile.flush()
        self.server.half_sent.set()
        self.server.go.wait(30)

    def _json(self, answer: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _send(self, status: int, headers: dict[str, str], data: bytes, body: bool = True) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)
            path = unquote(self.path.split("?")[0]).strip("/")
            self.server.sent[path] = self.server.sent.get(path, 0) + len(data)


def git_hash(data: bytes) -> str:
    """Git's hash of a file."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
