"""The Models page: what is here, what fits, deleting, downloads that pause, and the hub with and without a network."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.models.page import ModelsPage
from app.state.context import AppContext
from app.state.loader import Loader
from pass_core.models import storage
from pass_core.models.errors import ModelError
from pass_core.models.inventory import Kind, ModelEntry, delete, inventory, lookahead_files

TIMEOUT = 60_000


@pytest.fixture
def cache(tmp_path: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> Path:
    """A cache with one converted GGUF model, and an empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with storage.staging("gguf-tiny-0") as work:
        made = work / "model"
        shutil.copytree(tiny_folder, made)
        storage.publish(made, "gguf-tiny-0", {"name": "Tiny", "origin": "/files/tiny.gguf", "identity": "0"})
    return private_cache


@pytest.fixture
def page(context: AppContext, loader: Loader, qtbot: QtBot, cache: Path) -> Iterator[ModelsPage]:
    page = ModelsPage(context, loader)
    qtbot.addWidget(page)
    page.resize(1000, 700)
    page.show()
    with qtbot.waitSignal(page._looking.succeeded, timeout=TIMEOUT):
        page.page_shown()
    yield page
    page.shut_down()


def test_what_is_here_is_told(page: ModelsPage) -> None:
    assert set(page.here) == {"/files/tiny.gguf"}
    told = page.here["/files/tiny.gguf"].facts.text()
    assert "on the disk" in told
    assert "fits into memory" in told
    default = page.known["smollm2-135m-instruct"]
    assert "Apache-2.0" in default.facts.text()
    assert "to download" in default.facts.text()
    assert "2 look-ahead files" in default.facts.text()
    assert default.get.isVisibleTo(page)
    assert not default.load.isVisibleTo(page)


def test_load_and_delete(page: ModelsPage, context: AppContext, loader: Loader, qtbot: QtBot, cache: Path) -> None:
    asked: list[object] = []
    loader.requested.connect(asked.append)
    loader.load = lambda choice, lookahead=None: loader.requested.emit(choice)  # type: ignore[method-assign]
    page.here["/files/tiny.gguf"].load.click()
    assert [choice.source for choice in asked] == ["/files/tiny.gguf"]  # type: ignore[attr-defined]
    entry = page.here["/files/tiny.gguf"].entry
    with qtbot.waitSignal(page._looking.succeeded, timeout=TIMEOUT):
        page.delete(entry)
    assert page.here == {}
    assert not (cache / "models" / "gguf-tiny-0").exists()
    with pytest.raises(ModelError, match="not on this machine"):
        delete(ModelEntry(Kind.KNOWN, "x", "X"))


def test_a_download_reports_and_pauses(page: ModelsPage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    began = threading.Event()

    def fetch(source: str, *, progress: object, cancel: object) -> Path:
        """Stands for the network, which tests do not have; everything around it is real."""
        from pass_core.progress import Progress

        progress(Progress("Downloading", 5, 10, "B"))  # type: ignore[operator]
        began.set()
        while True:
            cancel.raise_if_cancelled()  # type: ignore[attr-defined]
            threading.Event().wait(0.01)

    monkeypatch.setattr("pass_core.models.fetch.fetch", fetch)
    with qtbot.waitSignal(page.download.progress, timeout=TIMEOUT):
        page.known["gpt2"].get.click()
    assert page.strip.isVisible()
    assert "5" in page.strip.detail.full_text()
    assert not page.known["pythia-160m"].get.isEnabled()
    with qtbot.waitSignal(page.download.cancelled, timeout=TIMEOUT):
        page.pause.click()
    assert page.pause.text() == "Resume"
    assert page.known["pythia-160m"].get.isEnabled()
    with qtbot.waitSignal(page.download.progress, timeout=TIMEOUT):
        page.pause.click()
    with qtbot.waitSignal(page.download.cancelled, timeout=TIMEOUT):
        page.strip.cancel.click()


def test_without_a_network_the_hub_says_so(page: ModelsPage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    page.search.setText("tiny")
    with qtbot.waitSignal(page._searching.failed, timeout=TIMEOUT):
        page.look.click()
    assert "The hub cannot be reached" in page.answer.text()
    assert page.hub == {}


def test_results_of_the_hub(page: ModelsPage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = [{"id": "a/tiny", "downloads": 1234, "tags": ["license:mit"], "gated": "manual"}]
            body = json.dumps(told if "search=tiny" in self.path else []).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        page.search.setText("tiny")
        with qtbot.waitSignal(page._searching.succeeded, timeout=TIMEOUT):
            page.look.click()
        server.shutdown()
    row = page.hub["a/tiny"]
    assert "mit" in row.facts.text()
    assert "asks for a login" in row.facts.text()
    assert "1,234" in row.note.text()


def test_the_inventory_names_look_ahead_files(cache: Path) -> None:
    assert [e.source for e in inventory() if e.kind is Kind.GGUF] == ["/files/tiny.gguf"]
    assert len(lookahead_files("SmolLM2-135M-Instruct")) == 2
    assert lookahead_files("nobody's model") == []
