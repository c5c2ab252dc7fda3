"""Where the model's own texts start: a few tokens of prose or code, or the header of the chat template's user turn."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from pass_core.models.language_model import LanguageModel
from pass_core.models.prompts import starting_ids
from pass_core.training.config import TrainingError
from pass_core.training.corpus import Document, split

OPENING_TOKENS = 8


@dataclass(frozen=True)
class Sources:
    """Where prefixes come from: documents by domain, and the chat headers (token ids)."""

    documents: dict[str, list[Document]]
    headers: list[list[int]]
    openings: list[str]


def shipped_sources(model: LanguageModel, extra: Sequence[Document] = ()) -> tuple[Sources, Sources]:
    """(training, held-out) prefix sources: the shipped prose and chat openings, this Python's own standard library,
    and `extra` documents. Split by document before anything is generated."""
    folder = resources.files("resources").joinpath("prompts", "training")
    prose: list[Document] = []
    with resources.as_file(folder) as root:
        for file in sorted(root.glob("*.txt")):
            if file.name == "chat.txt":
                continue
            for block in file.read_text(encoding="utf-8").split("\n\n"):
                title, _, text = block.strip().partition("\n")
                if text:
                    prose.append(Document(f"{file.stem}/{title}", "prose", " ".join(text.split())))
        openings = (root / "chat.txt").read_text(encoding="utf-8").split("\n")
    library = Path(sysconfig.get_paths()["stdlib"])
    code = [
        Document(f"stdlib/{p.relative_to(library)}", "code", text)
        for p in sorted((*library.glob("*.py"), *library.glob("[a-z]*/*.py")))
        if not {"site-packages", "test", "tests", "idlelib"} & set(p.parts)
        and 2_000 < len(text := p.read_text(encoding="utf-8", errors="replace")) < 200_000
    ]
    chat = [Document(f"chat/{line}", "chat", line) for line in openings if line.strip()]
    train, held = split([*prose, *code, *chat, *extra])
    headers = chat_headers(model)
    return _sources(train, headers), _sources(held, headers)


def _sources(documents: Sequence[Document], headers: list[list[int]]) -> Sources:
    by_domain = {d: [x for x in documents if x.domain == d] for d in ("prose", "code")}
    return Sources(by_domain, headers, [x.text for x in documents if x.domain == "chat"])


def chat_headers(model: LanguageModel) -> list[list[int]]:
    """The chat template up to where the user's first message begins; [] when the tokenizer has no template."""
    mark = "\x02"
    template = getattr(model.tokenizer, "chat_template", None)
    if not template:
        return []
    text = str(model.tokenizer.apply_chat_template([{"role": "user", "content": mark}], tokenize=False))
    header = text.partition(mark)[0]
    return [list(model.tokenizer(header, add_special_tokens=False)["input_ids"])] if header else []


def draw_prefixes(
    model: LanguageModel, sources: Sources, domain: str, count: int, rng: random.Random
) -> tuple[torch.Tensor, list[str], int]:
    """(ids [count, n], document names, opening tokens): one random prefix length for the whole batch. Prefixes of
    documents begin with the special tokens that a prompt begins with: a model may write nonsense without.

    A domain without documents (a tokenizer without chat template) falls back to prose.
    """
    if domain == "chat" and sources.headers:
        header = rng.choice(sources.headers)
        opening = rng.choice(sources.openings) if sources.openings and rng.random() < 0.5 else ""
        words = " ".join(opening.split()[: rng.randint(1, 4)])
        ids = header + list(model.tokenizer(words, add_special_tokens=False)["input_ids"])
        return torch.tensor([ids] * count), [f"chat/{opening}"] * count, OPENING_TOKENS
    documents = sources.documents["code" if domain == "code" else "prose"] or sources.documents["prose"]
    if not documents:
        raise TrainingError("There are no documents to take prefixes from.")
    n = rng.randint(8, 40)
    start_ids = starting_ids(model)
    rows: list[list[int]] = []
    names: list[str] = []
    tries = 0
    while len(rows) < count:
        tries += 1
        if tries > 200 * count:
            raise TrainingError("The documents are too short to take prefixes from. Add longer ones.")
        document = rng.choice(documents)
        separator = "\n" if document.domain == "code" else " "
        start = document.text.find(separator, rng.randrange(max(1, len(document.text) - 8 * n)))
        piece = document.text[start + 1 : start + 1 + 12 * n]
        ids = list(model.tokenizer(piece, add_special_tokens=False)["input_ids"])
        if len(ids) >= n:
            rows.append(start_ids + ids[:n])
            names.append(document.name)
    return torch.tensor(rows), names, 0
