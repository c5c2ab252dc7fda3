"""Everything that the program writes to a disk, one entry each, for tests and the program that fill the disk.

An entry prepares a folder and returns the write, which can be repeated. Every one has been done once before the disk is
full, so that there is something of before to lose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyqtgraph as pg
import torch

from app.export import menu, presets
from app.export.pictures import save_plot
from app.history.store import HistoryStore
from pass_core.decoding.summary import summarize
from pass_core.evaluation.state import StateFile
from pass_core.files import append_whole, keep
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import mean_embedding
from pass_core.models import convert, storage
from pass_core.models.gguf_parts import merge
from pass_core.records.runs import RunStatus, loads_record, save_record
from pass_core.settings import DecodingSettings, StopConditions
from pass_core.training.checkpoint import RunState, load_checkpoint, save_checkpoint
from pass_core.training.config import TrainingConfig
from tests.core.models.gguf_files import gguf_model, write_gguf
from tests.core.records.strategies import example_record

Write = Callable[[], object]
SILENT = frozenset({"bigrams cache", "measured dtype"})
"""What can be made again is silently not kept."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry writes, and how what it wrote is read back.

    Attributes:
        write: one write.
        read: what is there now; it fails where that is not whole.
    """

    write: Write
    read: Write


def large_record() -> Any:
    """A run of some 100 KB, so that a disk is full in the middle of it, too."""
    record = example_record()
    steps = tuple(replace(record.steps[1], index=n) for n in range(1, 120))
    return replace(record, steps=(record.steps[0], *steps))


def run_file(folder: Path) -> Place:
    path, record = folder / "run.json", large_record()
    return Place(lambda: save_record(record, path), lambda: loads_record(path.read_text(encoding="utf-8")))


def exported_page(folder: Path) -> Place:
    path, record = folder / "run.html", large_record()
    kind = next(k for k in menu.KINDS if k.suffix == ".html")
    return Place(lambda: menu.write(record, kind, path), lambda: path.read_text(encoding="utf-8").index("</html>"))


def preset(folder: Path) -> Place:
    kept = presets.PresetFolder(folder / "presets")
    one = presets.Preset("mine " + "x" * 60, DecodingSettings(), StopConditions(64, ("stop" * 500,)))
    return Place(lambda: kept.save(one), lambda: presets.load_preset(kept.path_of(one.name)))


def picture(suffix: str) -> Callable[[Path], Place]:
    def make(folder: Path) -> Place:
        plot = pg.PlotWidget()
        plot.resize(640, 400)
        plot.plot(list(range(2000)), [n * 7919 % 1000 for n in range(2000)])
        path = folder / f"plot{suffix}"
        return Place(lambda: save_plot(plot, path), lambda: path.stat().st_size > 10_000 or 1 / 0)

    return make


def checkpoint(folder: Path) -> Place:
    path, tensor = folder / "run.checkpoint", {"embeddings": torch.zeros(100_000)}
    state = RunState(TrainingConfig(), "f", "d", 3, tensor, {}, 0, "", 0, 0.0, tensor, torch.zeros(1, 1), 0.0)
    return Place(lambda: save_checkpoint(path, state), lambda: load_checkpoint(path))


def lookahead_file(folder: Path) -> Place:
    from pass_core.lookahead.format import load_lookahead

    path = folder / "made.safetensors"
    made = mean_embedding(torch.randn(50, 30_000), 5, base_model="tiny", base_fingerprint="ab" * 8)
    return Place(lambda: made.save(path), lambda: load_lookahead(path))


def humaneval_state(folder: Path) -> Place:
    path = folder / "humaneval.jsonl"

    def write() -> None:
        with StateFile(path, {"plan": 1}) as state:
            state.add({"completion": "x" * 20_000})

    def read() -> None:
        with StateFile(path, {"plan": 1}) as state:
            assert all(part == {"completion": "x" * 20_000} for part in state.done)

    return Place(write, read)


def own_text(folder: Path) -> Place:
    path = folder / "text.jsonl"

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            append_whole(path, file, b"x" * 20_000 + b"\n")

    def read() -> None:
        assert path.read_bytes().replace(b"x" * 20_000 + b"\n", b"") == b""

    return Place(write, read)


def history(folder: Path) -> Place:
    path = folder / "history" / "history.sqlite3"
    number = [0]

    def write() -> None:
        store = HistoryStore(path)
        try:
            number[0] += 1
            record = replace(large_record(), id=f"{number[0]:032x}", created=datetime.now(UTC))
            store.begin(record)
            for step in record.steps[:40]:
                store.append(record.id, [step], summarize([step]), "text")
            store.finish(record.id, RunStatus.FINISHED)
        finally:
            store.close()

    def read() -> int:
        store = HistoryStore(path)
        try:
            assert store.notice == ""
            whole = [e for e in store.entries() if e.status is RunStatus.FINISHED]
            assert whole
            assert all(len(store.load(e.id).steps) == 40 for e in whole)
            return len(whole)
        finally:
            store.close()

    return Place(write, read)


def conversion(folder: Path) -> Place:
    gguf = write_gguf(folder / "tiny.gguf", gguf_model())

    def write() -> None:
        with storage.locked("converted"), storage.staging("converted") as work:
            (work / "model").mkdir()
            convert.convert_here(gguf, work / "model")
            storage.publish(work / "model", "converted", {"name": "tiny", "origin": "tiny", "identity": "x"})

    return Place(write, lambda: storage.read_receipt(storage.models_folder() / "converted")["files"])  # type: ignore[index]


def joining(folder: Path) -> Place:
    write_gguf(folder / "split.gguf", gguf_model(), split=12)
    parts = sorted(folder.glob("split-*.gguf"))

    def write() -> None:
        with storage.locked("joined"), storage.staging("joined") as work:
            (work / "model").mkdir()
            merge(parts, work / "model" / "model.gguf")
            storage.publish(work / "model", "joined", {"name": "tiny", "origin": "tiny", "identity": "x"})

    return Place(write, lambda: storage.read_receipt(storage.models_folder() / "joined")["files"])  # type: ignore[index]


def bigrams_cache(folder: Path) -> Place:
    path = folder / "bigrams.safetensors"
    return Place(
        lambda: Bigrams(torch.zeros(100, 500, dtype=torch.bfloat16)).save(path),
        lambda: Bigrams.load(path, hidden_size=500, vocabulary_size=100).known,
    )


def measured_dtype(folder: Path) -> Place:
    path = folder / "dtype.json"
    return Place(lambda: keep(path, b"x" * 20_000), lambda: path.read_bytes() == b"x" * 20_000 or 1 / 0)


PLACES: dict[str, Callable[[Path], Place]] = {
    "run file": run_file,
    "exported page": exported_page,
    "preset": preset,
    "picture (PNG)": picture(".png"),
    "drawing (SVG)": picture(".svg"),
    "training checkpoint": checkpoint,
    "look-ahead file": lookahead_file,
    "HumanEval results": humaneval_state,
    "text for training": own_text,
    "history": history,
    "conversion of a GGUF file": conversion,
    "joining of parts": joining,
    "bigrams cache": bigrams_cache,
    "measured dtype": measured_dtype,
}


def files_below(folder: Path) -> dict[str, int]:
    """Every file with its size; locks and what SQLite keeps beside its file left out."""
    found = {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    return {name: size for name, size in found.items() if not name.endswith((".lock", "-wal", "-shm", ".sqlite3"))}
