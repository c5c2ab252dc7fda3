"""Training and held-out text: reading it, splitting it by document, and keeping near-duplicates apart.

Sources: text and source files (UTF-8, or UTF-16 and UTF-32 with a mark; gzip too), folders of them, JSONL (a "text" or
"content" field), Parquet, Hugging Face data sets streamed by name ("hf:NAME", or the presets "wikipedia" and
"stack-python"; extra `datasets`). Text that the model wrote itself comes from `pass_core.training.selfwritten`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from pass_core.models.language_model import LanguageModel
from pass_core.models.prompts import starting_ids
from pass_core.progress import CancelToken
from pass_core.text import NotText, decode, encoding_of, well_formed
from pass_core.training.acceptance import HeldOut
from pass_core.training.config import TrainingConfig, TrainingError

CODE = (".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".rs", ".go", ".java", ".js", ".ts", ".sh")
PROSE = (".txt", ".md", ".rst")
TABLES = (".jsonl", ".parquet")
PRESETS = {
    "wikipedia": ("wikimedia/wikipedia", "20231101.en", None, "text"),
    "stack-python": ("bigcode/the-stack-dedup", None, "data/python", "content"),
}
HELD_OUT_SHARE = 0.1
SHINGLE = 8
TOO_ALIKE = 0.2
LARGEST_FILE = 50_000_000


@dataclass(frozen=True, slots=True)
class Document:
    """One document: where it came from, its kind of text ("prose", "code" or "chat") and its text (well-formed)."""

    name: str
    domain: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", well_formed(self.name))
        object.__setattr__(self, "text", well_formed(self.text))


@dataclass(frozen=True)
class Corpus:
    """What a run trains on and is measured on.

    Attributes:
        train: token ids of each training sequence.
        held_out: sequences whose documents no training sequence came from.
        description: for the file's recipe.
    """

    train: list[torch.Tensor]
    held_out: list[HeldOut]
    description: str

    def check(self, config: TrainingConfig) -> None:
        """
        Raises:
            TrainingError: too little text, or held-out sequences too short for a chain of L drafts.
        """
        if not self.train or not self.held_out:
            raise TrainingError(
                f"The data gave {len(self.train)} training and {len(self.held_out)} held-out sequences; both are "
                "needed. Use more or longer documents (at least ten), or --data self."
            )
        if any(len(s) < config.lookahead + 2 for s in self.train):
            raise TrainingError(f"Every training sequence needs at least {config.lookahead + 2} tokens.")
        short = [h for h in self.held_out if len(h.ids) - h.start < min(5, config.lookahead) + 1]
        if short:
            raise TrainingError("A held-out sequence is too short to try a chain of drafts on.")


def is_held_out(name: str) -> bool:
    """Whether a document is held out: decided by its name alone, so the same on every machine and in every run."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 1000 < HELD_OUT_SHARE * 1000


def split(documents: Iterable[Document]) -> tuple[list[Document], list[Document]]:
    """(training, held-out) documents; near-duplicates of training documents are dropped from the held-out ones."""
    train: list[Document] = []
    held: list[Document] = []
    for document in documents:
        (held if is_held_out(document.name) else train).append(document)
    if not held and len(train) > 1:
        held.append(train.pop())
    seen: set[int] = set()
    for document in train:
        seen |= shingles(document.text)
    return train, [d for d in held if alike(shingles(d.text), seen) <= TOO_ALIKE]


def shingles(text: str) -> set[int]:
    """Hashes of every run of `SHINGLE` words (one hash of everything when the text is shorter)."""
    words = re.findall(r"\w+", text.lower())
    if len(words) < SHINGLE:
        return {_hash(" ".join(words))}
    return {_hash(" ".join(words[i : i + SHINGLE])) for i in range(len(words) - SHINGLE + 1)}


def alike(own: set[int], seen: set[int]) -> float:
    """Share of `own` shingles that are in `seen`."""
    return len(own & seen) / max(1, len(own))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def read_documents(source: str, *, limit: int = 20_000, cancel: CancelToken | None = None) -> list[Document]:
    """All documents of a file, folder, or data-set name.

    Args:
        limit: the most documents (data sets are streamed, not downloaded whole).

    Raises:
        TrainingError: there is nothing to read, or a file cannot be read.
        Cancelled: the token was set.
    """
    documents: list[Document] = []
    for document in islice(_documents(source), limit):
        if cancel is not None:
            cancel.raise_if_cancelled()
        if document.text.strip():
            documents.append(document)
    if not documents:
        raise TrainingError(f"“{source}” holds no text. Give a text, code, JSONL or Parquet file, or a folder of them.")
    return documents


def check_source(source: str) -> None:
    """Find out, before a model is loaded, that there is such a file, folder or data-set name.

    Raises:
        TrainingError: there is none.
    """
    if source in PRESETS or source.startswith("hf:"):
        return
    try:
        exists = Path(source).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # no name that a file can have
        exists = False
    if not exists:
        raise TrainingError(
            f"There is no file, folder or data set “{well_formed(source)[:200]}”. Use self, a path, hf:NAME, or one "
            f"of {', '.join(PRESETS)}."
        )


def _documents(source: str) -> Iterator[Document]:
    check_source(source)
    if source in PRESETS or source.startswith("hf:"):
        return _dataset(source)
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in CODE + PROSE + TABLES)
        return (d for file in files for d in _file(file, str(file.relative_to(path))))
    return _file(path, path.name)


def _suffix(path: Path) -> str:
    """The kind of file: the suffix in small letters, that before `.gz` of a compressed one."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _file(path: Path, name: str) -> Iterator[Document]:
    suffix = _suffix(path)
    domain = "code" if suffix in CODE else "prose"
    try:
        if suffix == ".jsonl":
            yield from _json_lines(path, name)
        elif suffix == ".parquet":
            yield from _parquet(path, name)
        else:
            with _opened(path) as f:
                data = f.read(LARGEST_FILE + 1)
            if len(data) > LARGEST_FILE:
                raise TrainingError(f"{path} is larger than {LARGEST_FILE // 1_000_000} MB. Cut it into documents.")
            text = decode(data).replace("\r\n", "\n")
            if suffix in PROSE or suffix in CODE:
                yield from _sections(name, domain, text)
            else:
                yield Document(name, domain, text)
    except TrainingError:
        raise
    except NotText as error:
        raise TrainingError(f"{path} is no text: {error}. Leave it out, or save it as UTF-8.") from error
    except (OSError, ValueError, EOFError, RecursionError, zlib.error) as error:
        raise TrainingError(f"{path} cannot be read ({error}). Leave it out, or repair it.") from error


def _opened(path: Path) -> BinaryIO:
    """The file's bytes, unpacked where gzip compressed it, under any name."""
    with path.open("rb") as f:
        packed = f.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def _json_lines(path: Path, name: str) -> Iterator[Document]:
    with _opened(path) as raw, io.TextIOWrapper(raw, encoding=_encoding(path), errors="replace") as f:
        for number in count():
            line = f.readline(LARGEST_FILE + 1)
            if not line:
                return
            if len(line) > LARGEST_FILE:
                raise TrainingError(f"{path}, line {number + 1} is larger than {LARGEST_FILE // 1_000_000} MB.")
            if "\0" in line:
                raise NotText(f"line {number + 1} holds zero bytes, so it is binary, or in an encoding without a mark")
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise TrainingError(
                    f"{path}, line {number + 1} cannot be read: it is no JSON ({error}). Leave it out, or repair it."
                ) from error
            yield _row(row, f"{name}#{number}")


def _encoding(path: Path) -> str:
    """By the byte-order mark; UTF-8 without one."""
    with _opened(path) as f:
        return encoding_of(f.read(4))


def _sections(name: str, domain: str, text: str, size: int = 50_000) -> Iterator[Document]:
    """A long text in sections of about `size` characters, cut at empty lines: each counts as a document."""
    if len(text) <= 2 * size:
        yield Document(name, domain, text)
        return
    start, number = 0, 0
    while start < len(text):
        end = text.find("\n\n", start + size)
        end = len(text) if end < 0 else end
        yield Document(f"{name}#{number}", domain, text[start:end])
        start, number = end, number + 1


def _row(row: Any, name: str) -> Document:
    if isinstance(row, str):
        return Document(name, "prose", row)
    for key in ("text", "content"):
        if isinstance(row, dict) and isinstance(row.get(key), str):
            return Document(str(row.get("id", name)), "code" if key == "content" else "prose", str(row[key]))
    raise TrainingError(f"{name} has no “text” or “content” field. Rename the field that holds the text.")


def _parquet(path: Path, name: str) -> Iterator[Document]:
    try:
        import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise TrainingError(f"Reading {path.name} needs pyarrow: install the extra “datasets”.") from error
    number = 0
    for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
        for row in batch.to_pylist():
            yield _row(row, f"{name}#{number}")
            number += 1


def _dataset(source: str) -> Iterator[Document]:
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise TrainingError(f"Reading “{source}” needs the extra “datasets”: pip install datasets.") from error
    name, config, folder, field = PRESETS.get(source, (source.removeprefix("hf:"), None, None, ""))
    try:
        rows: Any = load_dataset(name, config, data_dir=folder, split="train", streaming=True)
        for number, row in enumerate(rows):
            document = _row({"text": row[field]} if field == "text" else row, f"{name}#{number}")
            yield document
    except TrainingError:
        raise
    except Exception as error:  # the hub, the network and the data set's own code raise what they like
        raise TrainingError(
            f"The data set “{source}” cannot be read ({error}). Check its name and the network, or use local files."
        ) from error


def tokenize(model: LanguageModel, documents: Sequence[Document], length: int, *, most: int) -> list[torch.Tensor]:
    """Sequences of `length` tokens, cut from the documents in turn so that no document crowds out the others.

    Each begins with the special tokens that a prompt begins with. The remainder of a document is used when it has at
    least a quarter of `length`.
    """
    start = torch.tensor(starting_ids(model), dtype=torch.long)
    room = max(1, length - len(start))
    pieces: list[list[torch.Tensor]] = []
    for document in documents:
        ids = torch.tensor(model.tokenizer(document.text, add_special_tokens=False)["input_ids"], dtype=torch.long)
        cut = [torch.cat((start, ids[i : i + room])) for i in range(0, len(ids), room)]
        cut = [c for c in cut if len(c) >= max(16, length // 4)]
        if cut:
            pieces.append(cut)
    sequences: list[torch.Tensor] = []
    depth = 0
    while len(sequences) < most and any(len(p) > depth for p in pieces):
        sequences.extend(p[depth] for p in pieces if len(p) > depth)
        depth += 1
    return sequences[:most]
