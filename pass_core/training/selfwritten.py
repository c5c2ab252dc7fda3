"""Text that the model writes itself: what look-ahead parts learn best from, because it is what they will draft.

Sequences start from a few tokens of a document (prose, code) or from the header of the chat template's user turn, so
that the model writes both sides. Training text is sampled at temperatures 0.6 to 1.0, held-out text at the settings of
the evaluation. Every batch is appended to a JSON-lines file as it is made: a killed run continues with the next.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from pass_core.files import append_whole
from pass_core.models.language_model import LanguageModel
from pass_core.models.prompts import starting_ids
from pass_core.progress import Cancelled, CancelToken, ProgressCallback, ProgressReporter
from pass_core.training.acceptance import HeldOut
from pass_core.training.budget import WRITING_SHARE, Budget
from pass_core.training.config import TrainingError
from pass_core.training.corpus import Corpus, Document, read_documents, split, tokenize
from pass_core.training.sources import OPENING_TOKENS, Sources, draw_prefixes, shipped_sources
from pass_core.training.writing import continue_text

DOMAINS = ("chat", "prose", "code")
HASTY_BATCH = 12
WARM = ((0.6, 0), (0.8, 10), (0.8, 0), (1.0, 0))


@dataclass(frozen=True, slots=True)
class SelfPlan:
    """How much text to write.

    Attributes:
        sequences: training sequences, a third of each domain.
        held_out: held-out sequences, a third of each domain.
        length: tokens a sequence, prefix included.
        batch: sequences written together.
        temperature, top_k: of the held-out text.
        seed: of prefixes and sampling.
    """

    sequences: int = 192
    held_out: int = 48
    length: int = 256
    batch: int = 96
    temperature: float = 0.8
    top_k: int = 10
    seed: int = 0


def write_corpus(
    model: LanguageModel,
    plan: SelfPlan,
    file: Path,
    *,
    extra: Sequence[Document] = (),
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    budget: Budget | None = None,
) -> Corpus:
    """The model's own text by `plan`, from `file` as far as it is there already, the rest written now.

    Args:
        budget: with a limit, small batches of both sorts are written in turn until the share of writing is used up;
            there is some text of both sorts in any case, short where time is short.

    Raises:
        TrainingError: `file` was written by another model.
        WriteError: the disk is full; what was written before stays and is used next time.
        Cancelled: the token was set; what is written stays and is used next time.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(file, model)
    have = {s: sum(r["split"] == s for r in rows) for s in ("train", "held")}
    limited = budget is not None and budget.limited
    jobs = _jobs(plan, have, HASTY_BATCH if limited else plan.batch)
    until = cancel if budget is None else budget.share(WRITING_SHARE, cancel)
    if jobs:
        train, held = shipped_sources(model, extra)
        total = sum(size for _, _, size in jobs) * plan.length
        reporter = ProgressReporter("The model is writing its training text", total, "tokens", progress, cancel)
        written = 0
        with file.open("ab", buffering=0) as f:
            if not file.stat().st_size:
                append_whole(file, f, _lines([{"fingerprint": model.fingerprint}]))
            for which, number, size in jobs:
                sources = held if which == "held" else train
                # There must be some of both sorts: the first of each is cut short where time is.
                first = limited and not any(r["split"] == which for r in rows)
                cut = budget.share(WRITING_SHARE / 2, cancel) if budget is not None and first else None
                try:
                    made = _write_batch(model, plan, sources, which, number, size, until, cut, hasty=limited)
                except Cancelled:
                    if cancel is not None and cancel.cancelled:
                        raise
                    break  # the time for writing is over
                if cancel is not None:
                    cancel.raise_if_cancelled()
                if made and len(made[0]["ids"]) < plan.length:  # good for this run alone
                    rows.extend(made)
                    continue
                append_whole(file, f, _lines(made))
                rows.extend(made)
                written += size * plan.length
                reporter.update(written)
    return corpus_from_rows(rows, plan)


def unwritten(model: LanguageModel, plan: SelfPlan, file: Path) -> int:
    """How many of the plan's texts are not in `file` yet.

    Raises:
        TrainingError: another model wrote it.
    """
    rows = read_rows(file, model)
    have = {s: sum(r["split"] == s for r in rows) for s in ("train", "held")}
    return max(0, plan.held_out - have["held"]) + max(0, plan.sequences - have["train"])


def _jobs(plan: SelfPlan, have: dict[str, int], most: int) -> list[tuple[str, int, int]]:
    """(split, number, size) of the batches to write, at most `most` texts each: held-out and training text in turn, so
    that whatever time there is gives some of both."""
    of: dict[str, list[tuple[str, int, int]]] = {"held": [], "train": []}
    for which, wanted in (("held", plan.held_out), ("train", plan.sequences)):
        batch, done = 0, have[which]
        while done < wanted:
            size = min(most, max(3, wanted // 3), wanted - done)
            of[which].append((which, have[which] // max(1, size) + batch, size))
            done, batch = done + size, batch + 1
    pairs = zip_longest(of["held"], of["train"])
    return [job for pair in pairs for job in pair if job is not None]


def _write_batch(
    model: LanguageModel,
    plan: SelfPlan,
    sources: Sources,
    which: str,
    number: int,
    size: int,
    cancel: CancelToken | None,
    cut: CancelToken | None = None,
    *,
    hasty: bool = False,
) -> list[dict[str, Any]]:
    # Hasty batches are smaller: numbers of theirs mean other texts.
    key = hashlib.sha256(f"{plan.seed}/{which}/{number}{'/hasty' if hasty else ''}".encode()).digest()
    rng = random.Random(key)
    generator = torch.Generator().manual_seed(int.from_bytes(key[:6], "little"))
    domain = DOMAINS[number % len(DOMAINS)]
    prefixes, names, opening = draw_prefixes(model, sources, domain, size, rng)
    warmth = [(plan.temperature, plan.top_k) if which == "held" else rng.choice(WARM) for _ in range(size)]
    ids = continue_text(
        model,
        prefixes,
        max(plan.length, prefixes.shape[1] + 16),
        torch.tensor([t for t, _ in warmth]),
        torch.tensor([min(k, model.vocabulary_size) for _, k in warmth]),
        generator,
        opening=opening,
        cancel=None if cut is not None else cancel,
        enough=None if cut is None else lambda: cut.cancelled,
    )
    start = prefixes.shape[1] + opening
    return [
        {"split": which, "domain": domain, "document": name, "start": start, "ids": row.tolist()}
        for name, row in zip(names, ids, strict=True)
    ]


def _lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def read_rows(file: Path, model: LanguageModel) -> list[dict[str, Any]]:
    """The rows of a self-written corpus file; a last line cut short by a kill is dropped.

    Raises:
        TrainingError: another model wrote it.
    """
    if not file.exists():
        return []
    rows: list[dict[str, Any]] = []
    whole = 0
    with file.open("rb") as f:
        for line in f:
            if not line.endswith(b"\n"):
                break
            rows.append(json.loads(line))
            whole += len(line)
    with file.open("rb+") as f:
        f.truncate(whole)
    if rows and rows[0].get("fingerprint") != model.fingerprint:
        raise TrainingError(f"{file} was written by another model. Choose another file for this one's text.")
    return rows[1:]


def corpus_from_rows(rows: Sequence[dict[str, Any]], plan: SelfPlan) -> Corpus:
    """Training sequences and held-out ones; a held-out text whose own beginning a training text shares is dropped."""
    train = [torch.tensor(r["ids"]) for r in rows if r["split"] == "train"][: plan.sequences]
    beginnings = {tuple(r["ids"][: r["start"] + OPENING_TOKENS]) for r in rows if r["split"] == "train"}
    held = [
        HeldOut(torch.tensor(r["ids"]), int(r["start"]), str(r["domain"]))
        for r in rows
        if r["split"] == "held" and tuple(r["ids"][: r["start"] + OPENING_TOKENS]) not in beginnings
    ][: plan.held_out]
    tokens = sum(len(s) for s in train)
    return Corpus(train, held, f"{len(train)} texts ({tokens} tokens) that the model wrote itself: chat, prose, code")


def text_corpus(
    model: LanguageModel,
    documents: Sequence[Document],
    *,
    length: int,
    sequences: int,
    plan: SelfPlan,
    label: str,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Corpus:
    """A corpus from documents: training sequences are their text; held-out sequences are the model's own continuation
    of held-out documents, because acceptance is about what the model would write.

    Raises:
        TrainingError: there is too little text.
    """
    train_documents, held_documents = split(documents)
    train = tokenize(model, train_documents, length, most=sequences)
    starts = tokenize(model, held_documents, 40, most=plan.held_out)
    starts = [s for s in starts if len(s) >= 16]
    if not train or not starts:
        raise TrainingError(
            f"“{label}” gave {len(train)} training and {len(starts)} held-out texts; both are needed. Use at least ten "
            "documents of a few hundred words, or --data self."
        )
    n = min(len(s) for s in starts)
    reporter = ProgressReporter("Continuing held-out documents", len(starts), "texts", progress, cancel)
    held: list[HeldOut] = []
    generator = torch.Generator().manual_seed(plan.seed)
    domain = "code" if sum(d.domain == "code" for d in held_documents) * 2 > len(held_documents) else "prose"
    for first in range(0, len(starts), plan.batch):
        prefixes = torch.stack([s[:n] for s in starts[first : first + plan.batch]])
        size = len(prefixes)
        ids = continue_text(
            model,
            prefixes,
            n + 96,
            torch.full((size,), plan.temperature),
            torch.full((size,), min(plan.top_k, model.vocabulary_size)),
            generator,
            cancel=cancel,
        )
        held.extend(HeldOut(row, n, domain) for row in ids)
        reporter.update(first + size)
    return Corpus(train, held, f"{label}: {len(train)} sequences of {len(train_documents)} documents")


def make_corpus(
    model: LanguageModel,
    data: str,
    *,
    length: int,
    sequences: int,
    plan: SelfPlan,
    folder: Path,
    prefixes: str | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    budget: Budget | None = None,
) -> Corpus:
    """The corpus that `--data` names: "self", a self-written .jsonl made before, or a source of documents.

    Args:
        folder: where self-written text is kept, one file per model and seed.
        prefixes: more documents (a source as in `read_documents`) whose beginnings the model continues.
    """
    if data == "self":
        extra = read_documents(prefixes, cancel=cancel) if prefixes else []
        file = own_text(model, plan, folder, prefixes)
        return write_corpus(model, plan, file, extra=extra, progress=progress, cancel=cancel, budget=budget)
    path = Path(data).expanduser()
    if path.is_file() and path.suffix == ".jsonl" and _is_self_written(path):
        return corpus_from_rows(read_rows(path, model), plan)
    documents = read_documents(data, cancel=cancel)
    return text_corpus(
        model,
        documents,
        length=length,
        sequences=sequences,
        plan=plan,
        label=Path(data).name or data,
        progress=progress,
        cancel=cancel,
    )


def own_text(model: LanguageModel, plan: SelfPlan, folder: Path, prefixes: str | None = None) -> Path:
    """The file in `folder` that keeps what the model wrote by such a plan.

    Text from before prefixes got the special tokens of a prompt has another name, where there are such tokens."""
    mark = f"-{hashlib.sha256(prefixes.encode()).hexdigest()[:6]}" if prefixes else ""
    mark += "-started" if starting_ids(model) else ""
    return folder / f"{model.fingerprint}-{plan.seed}-{plan.length}{mark}.jsonl"


def _is_self_written(path: Path) -> bool:
    with path.open(encoding="utf-8") as f:
        return f.readline().startswith('{"fingerprint"')
