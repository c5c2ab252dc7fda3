"""The user's own text: what there is of it, said when it is chosen; few long texts are cut, so some are held out."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.widgets.text_format import count_of
from pass_core.progress import CancelToken
from pass_core.training.config import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pass_core.training.corpus import Document

ENOUGH_DOCUMENTS = 10  # below that the held-out ones would be one or none
USUAL_PIECES = 60
SHORTEST_PIECE = 1_000  # characters: about the 256 tokens of a training sequence
LONGEST_PIECE = 40_000  # longer files are cut by whoever reads them, at other places
SHORTEST_TEXT = 2 * SHORTEST_PIECE


@dataclass(frozen=True, slots=True)
class Survey:
    """What a source holds.

    Attributes:
        source: file or folder.
        documents: how many texts it has.
        characters: of all of them.
        train, held_out: into how many they are divided.
        cut: whether the program cuts them for that.
        problem: why it cannot be trained on, "" when it can.
    """

    source: str
    documents: int = 0
    characters: int = 0
    train: int = 0
    held_out: int = 0
    cut: bool = False
    problem: str = ""

    @property
    def sentence(self) -> str:
        """For people."""
        if self.problem:
            return self.problem
        if not self.documents:
            return "Text that a model wrote before."
        what = f"{count_of(self.documents, 'document')}, {self.characters:,} characters"
        if self.cut:
            pieces = count_of(self.train + self.held_out, "piece")
            return f"{what}. Cut into {pieces}: {self.train} to train on, {self.held_out} held out."
        return f"{what}: {self.train} to train on, {self.held_out} held out."


def survey(source: str, cancel: CancelToken | None = None) -> Survey:
    """Read `source` and say what a training would make of it.

    Raises:
        Cancelled: the token was set.
    """
    from pass_core.training.corpus import read_documents, split

    if _written_by_a_model(source):
        return Survey(source)
    try:
        documents = read_documents(source, cancel=cancel)
    except TrainingError as error:
        return Survey(source, problem=str(error))
    characters = sum(len(d.text) for d in documents)
    counts = (source, len(documents), characters)
    if characters < SHORTEST_TEXT:
        return Survey(
            *counts,
            problem=f"“{Path(source).name}” has {characters:,} characters. Training and its held-out check need at "
            f"least {SHORTEST_TEXT:,}; tens of thousands are better.",
        )
    cut = len(documents) < ENOUGH_DOCUMENTS
    train, held_out = split(pieces_of(documents) if cut else documents)
    if not held_out:
        return Survey(
            *counts,
            problem=f"The documents of “{Path(source).name}” repeat each other, so that none can be held out. "
            "Add text that differs.",
        )
    return Survey(*counts, len(train), len(held_out), cut)


def divided(source: str, folder: Path, cancel: CancelToken | None = None) -> str:
    """`source`, or where it has few documents, a folder below `folder` with the pieces of them, one file each.

    The command line trains on that folder as the window does, so the recipe of the look-ahead file names it.

    Raises:
        TrainingError: there is nothing to read. Cancelled: the token was set.
    """
    from pass_core.files import write_atomically
    from pass_core.training.corpus import read_documents

    if _written_by_a_model(source):
        return source
    documents = read_documents(source, cancel=cancel)
    if len(documents) >= ENOUGH_DOCUMENTS or sum(len(d.text) for d in documents) < SHORTEST_TEXT:
        return source
    pieces = pieces_of(documents)
    digest = hashlib.sha256("\0".join(p.text for p in pieces).encode()).hexdigest()[:12]
    target = folder / f"{Path(source).stem[:60]}-{digest}"
    target.mkdir(parents=True, exist_ok=True)
    for piece in pieces:
        write_atomically(target / piece.name, piece.text, durable=False)
    return str(target)


def pieces_of(documents: Sequence[Document]) -> list[Document]:
    """The documents cut at line ends into pieces of even size, named so that the split by names holds out some."""
    from pass_core.training.corpus import Document, is_held_out

    characters = sum(len(d.text) for d in documents)
    size = min(LONGEST_PIECE, max(SHORTEST_PIECE, characters // USUAL_PIECES))
    parts = [(d.domain, text) for d in documents for text in _cut(d.text, size)]
    for salt in itertools.count():
        names = [f"{salt:02d}-{n:03d}{'.py' if domain == 'code' else '.txt'}" for n, (domain, _) in enumerate(parts)]
        held = sum(map(is_held_out, names))
        if 1 <= held <= max(1, len(parts) // 4):
            return [Document(name, domain, text) for name, (domain, text) in zip(names, parts)]
    raise AssertionError("the names never run out")


def _written_by_a_model(source: str) -> bool:
    """Whether it is a file of `pass_core.training.selfwritten`, which has its own held-out texts."""
    path = Path(source).expanduser()
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with path.open("rb") as f:
        return f.read(14) == b'{"fingerprint"'


def _cut(text: str, size: int) -> list[str]:
    """Pieces of about `size` characters that end at a line, or failing that at a space; at least two of a long text."""
    count = max(1, len(text) // size)
    places = [0]
    for n in range(1, count):
        wanted = n * len(text) // count
        ends = (text.find(mark, wanted, wanted + size // 2) for mark in ("\n\n", "\n", " "))
        places.append(next((end for end in ends if end >= 0), wanted))
    return [piece for a, b in itertools.pairwise([*places, len(text)]) if (piece := text[a:b].strip())]
