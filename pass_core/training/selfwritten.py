"""Text that the model writes itself: what look-ahead parts learn best from, because it is what they will draft.

Sequences start from a few tokens of a document (prose, code) or from the header of the chat template's user turn, so
that the model writes both sides. Training text is sampled at temperatures 0.6 to 1.0, held-out text at the settings of
the evaluation. Every batch is appended to a JSON-lines file as it is made: a killed generation goes on with the next.
"""

from __future__ import annotations

import hashlib
import json
import random
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken, ProgressCallback, ProgressReporter
from pass_core.training.acceptance import HeldOut
from pass_core.training.config import TrainingError
from pass_core.training.corpus import Corpus, Document, read_documents, split, tokenize
from pass_core.training.head import scores

DOMAINS = ("chat", "prose", "code")
WARM = ((0.6, 0), (0.8, 10), (0.8, 0), (1.0, 0))
OPENING_TOKENS = 8


@dataclass(frozen=True, slots=True)
class SelfPlan:
    """How much text to write.

    Attributes:
        sequences: training sequences, a third of each domain.
        held_out: held-out sequences, a third of each domain.
        length: tokens a sequence, prefix included.
        batch: sequences written at once.
        temperature, top_k: of the held-out text.
        seed: of prefixes and sampling.
    """

    sequences: int = 192
    held_out: int = 48
    length: int = 256
    batch: int = 32
    temperature: float = 0.8
    top_k: int = 10
    seed: int = 0


class _RoomLayer(DynamicLayer):
    """Keys and values in buffers with room for the whole sequence, so that a step copies nothing old."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity, self.used = capacity, 0
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._room is None:
            b, h, _, d = key_states.shape
            dv = value_states.shape[-1]
            self._room = key_states.new_empty(b, h, self.capacity, d), value_states.new_empty(b, h, self.capacity, dv)
            self.is_initialized = True
        keys, values = self._room
        end = self.used + key_states.shape[-2]
        keys[:, :, self.used : end] = key_states
        values[:, :, self.used : end] = value_states
        self.used = end
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.used


def _room_cache(layers: int, capacity: int) -> Cache:
    cache: Any = DynamicCache()
    cache.layers = [_RoomLayer(capacity) for _ in range(layers)]
    return cache


def _next_logits(model: LanguageModel, rows: torch.Tensor, end: int, cache: Cache) -> torch.Tensor:
    """Logits [batch, vocabulary] on the CPU after `rows` [batch, n], the tokens before position `end`."""
    batch, n = rows.shape
    out: Any = model.base(
        input_ids=rows.to(model.device),
        position_ids=torch.arange(end - n, end, device=model.device)[None].expand(batch, -1),
        past_key_values=cache,
        use_cache=True,
    )
    return scores(model, out.last_hidden_state[:, -1]).cpu()


@torch.no_grad()
def continue_text(
    model: LanguageModel,
    prefixes: torch.Tensor,
    length: int,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    generator: torch.Generator,
    *,
    opening: int = 0,
    cancel: CancelToken | None = None,
) -> torch.Tensor:
    """Sample until each row has `length` tokens; ends of text are written over, so a turn follows the last.

    Args:
        prefixes: [batch, n] token ids.
        temperature, top_k: [batch] each; top-k 0 keeps all tokens.
        opening: so many first tokens are drawn at temperature 1 without top-k, for variety.
    """
    batch, n = prefixes.shape
    ids = torch.empty(batch, length, dtype=torch.long)
    ids[:, :n] = prefixes
    cache = _room_cache(len(model.layers), length)
    rows = ids[:, :n]
    limited = int(top_k.max())
    for at in range(n, length):
        if cancel is not None:
            cancel.raise_if_cancelled()
        logits = _next_logits(model, rows, at, cache)
        if at - n >= opening:
            if limited:
                best = logits.topk(limited, -1).values
                last = best.gather(1, (top_k - 1).clamp_min(0)[:, None])
                logits = logits.masked_fill((top_k > 0)[:, None] & (logits < last), float("-inf"))
            logits = logits / temperature[:, None]
        noise = torch.empty_like(logits).exponential_(generator=generator).clamp_min_(1e-20)
        ids[:, at] = (logits - noise.log()).argmax(-1)
        rows = ids[:, at : at + 1]
    return ids


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
    """(ids [count, n], document names, opening tokens): one random prefix length for the whole batch.

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
            rows.append(ids[:n])
            names.append(document.name)
    return torch.tensor(rows), names, 0


def write_corpus(
    model: LanguageModel,
    plan: SelfPlan,
    file: Path,
    *,
    extra: Sequence[Document] = (),
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Corpus:
    """The model's own text by `plan`, from `file` as far as it is there already, the rest written now.

    Raises:
        TrainingError: `file` was written by another model.
        Cancelled: the token was set; what is written stays and is used next time.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(file, model)
    have = {s: sum(r["split"] == s for r in rows) for s in ("train", "held")}
    jobs: list[tuple[str, int, int]] = []
    for which, wanted in (("held", plan.held_out), ("train", plan.sequences)):
        batch, done = 0, have[which]
        while done < wanted:
            size = min(plan.batch, max(3, wanted // 3), wanted - done)
            jobs.append((which, have[which] // max(1, size) + batch, size))
            done, batch = done + size, batch + 1
    if jobs:
        train, held = shipped_sources(model, extra)
        total = sum(size for _, _, size in jobs) * plan.length
        reporter = ProgressReporter("The model is writing its training text", total, "tokens", progress, cancel)
        written = 0
        with file.open("a", encoding="utf-8") as f:
            if not rows:
                f.write(json.dumps({"fingerprint": model.fingerprint}) + "\n")
            for which, number, size in jobs:
                made = _write_batch(model, plan, held if which == "held" else train, which, number, size, cancel)
                f.writelines(json.dumps(row) + "\n" for row in made)
                f.flush()
                rows.extend(made)
                written += size * plan.length
                reporter.update(written)
    return corpus_from_rows(rows, plan)


def _write_batch(
    model: LanguageModel,
    plan: SelfPlan,
    sources: Sources,
    which: str,
    number: int,
    size: int,
    cancel: CancelToken | None,
) -> list[dict[str, Any]]:
    key = hashlib.sha256(f"{plan.seed}/{which}/{number}".encode()).digest()
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
        cancel=cancel,
    )
    start = prefixes.shape[1] + opening
    return [
        {"split": which, "domain": domain, "document": name, "start": start, "ids": row.tolist()}
        for name, row in zip(names, ids, strict=True)
    ]


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
) -> Corpus:
    """The corpus that `--data` names: "self", a self-written .jsonl made before, or a source of documents.

    Args:
        folder: where self-written text is kept, one file per model and seed.
        prefixes: more documents (a source as in `read_documents`) whose beginnings the model continues.
    """
    if data == "self":
        extra = read_documents(prefixes, cancel=cancel) if prefixes else []
        mark = f"-{hashlib.sha256(prefixes.encode()).hexdigest()[:6]}" if prefixes else ""
        file = folder / f"{model.fingerprint}-{plan.seed}-{plan.length}{mark}.jsonl"
        return write_corpus(model, plan, file, extra=extra, progress=progress, cancel=cancel)
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


def _is_self_written(path: Path) -> bool:
    with path.open(encoding="utf-8") as f:
        return f.readline().startswith('{"fingerprint"')
