"""What a look-ahead file is worth and where it falls short, by position, beside the best that one could guess."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pass_core.engine import Engine
from pass_core.files import write_atomically
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.progress import CancelToken, ProgressCallback, ProgressReporter
from pass_core.training.acceptance import BEST, HeldOut, Tried, chain_settings, even_places, recalls, try_chains
from pass_core.training.config import TrainingConfig
from pass_core.training.coupled import MOST_SIBLINGS
from pass_core.training.floor import Floor, ideal_matches
from pass_core.training.options import check_file
from pass_core.training.parts import parts_of
from pass_core.training.state_acceptance import measure_state_file
from pass_core.training.state_figures import StateAcceptance
from pass_core.training.step import frozen
from pass_core.training.store import PrefixStore

FLOOR_PLACES = 2  # a text, of those that the file is tried at
FLOOR_REPEATS = 4


@dataclass(frozen=True, slots=True)
class DraftReport:
    """By position of the draft, at evenly spread places of held-out text.

    Attributes:
        file: what was measured.
        match: how often draft j is the target's token, accepted before or not (closed form, without the noise's luck).
        accepted: how often it and all before it are (drawn noise).
        siblings: for 1 to 3 siblings how often one of them is the target's token (closed form).
        recall: for each n of `best`, how often the target's token is among the n best drafts under the shared noise.
        best: the numbers n.
        floor: the ideal guesses.
        contexts: chains tried.
        texts: held-out texts.
        temperature, top_k: sampling settings.
        state: the figures of the state head, which drafts without look-ahead rows; None without one.
    """

    file: str
    match: tuple[float, ...]
    accepted: tuple[float, ...]
    siblings: tuple[tuple[float, ...], ...]
    recall: tuple[tuple[float, ...], ...]
    best: tuple[int, ...]
    floor: Floor
    contexts: int
    texts: int
    temperature: float
    top_k: int
    state: StateAcceptance | None = None

    @property
    def by_rows(self) -> dict[int, float]:
        """Drafts accepted a chain by number of look-ahead rows; 0 rows is the state head. A chain of m rows drafts its
        first m tokens, and deeper rows would not change them."""
        found = {} if self.state is None else {0: self.state.chain.accepted_per_iteration}
        return found | {rows: sum(self.accepted[:rows]) for rows in range(1, len(self.accepted) + 1)}

    def to_json(self) -> str:
        """A JSON object that `from_json` reads."""
        return json.dumps({**asdict(self), "by_rows": self.by_rows}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> DraftReport:
        """
        Raises:
            ValueError, TypeError, KeyError: it is no report.
        """
        raw: dict[str, Any] = {k: v for k, v in json.loads(text).items() if k in cls.__dataclass_fields__}
        for name in ("match", "accepted", "best"):
            raw[name] = tuple(raw[name])
        for name in ("siblings", "recall"):
            raw[name] = tuple(tuple(row) for row in raw[name])
        floor = raw["floor"]
        raw["floor"] = Floor(tuple(floor["blind"]), tuple(floor["one_token"]), floor["places"], floor["paths"])
        raw["state"] = raw.get("state") and StateAcceptance.from_raw(raw["state"])
        return cls(**raw)

    def to_markdown(self) -> str:
        """Tables for a page."""
        positions = range(1, len(self.match) + 1)
        head = "| | " + " | ".join(f"LA_{j}" for j in positions) + " |"
        rule = "|---|" + "---|" * len(self.match)

        def row(name: str, values: Sequence[float]) -> str:
            return f"| {name} | " + " | ".join(f"{v:.2f}" for v in values) + " |"

        pairs = list(zip(self.floor.one_token, self.match, strict=False))
        lines = [
            f"# Drafts of {self.file}",
            "",
            f"{self.contexts} chains of {len(self.match)} drafts at evenly spread places of {self.texts} held-out "
            f"texts, temperature {self.temperature:g}, top-k {self.top_k}, coupled rule: "
            f"**{sum(self.accepted):.2f}** drafts accepted a chain. Ideal guesses: {self.floor.places} places, "
            f"{self.floor.paths} paths each.",
            "",
            "## Match by position: the file, and the best that any drafter could do",
            "",
            head,
            rule,
            row("this file (its head knows the token before)", self.match),
            row("accepted (all before it, too)", self.accepted),
            row("ideal guess, blind between", self.floor.blind),
            row("ideal guess, knowing the token before", self.floor.one_token),
            row("floor: lost by any blind guess", [1 - b for b in self.floor.blind]),
            row("floor: lost knowing the token before", [1 - o for o in self.floor.one_token]),
            row("gap: what this file lacks to the latter", [o - m for o, m in pairs]),
            "",
            "## How often the target's token is among the n best drafts",
            "",
            head.replace("| |", "| n |", 1),
            rule,
            *(row(str(n), values) for n, values in zip(self.best, self.recall, strict=True)),
            "",
            *self._by_rows(),
            *self._of_state_head(),
        ]
        return "\n".join(lines)

    def _by_rows(self) -> list[str]:
        """The table by number of look-ahead rows."""
        return [
            "## By number of look-ahead rows of a chain",
            "",
            "| look-ahead rows | " + " | ".join("0 (state head)" if n == 0 else str(n) for n in self.by_rows) + " |",
            "|---|" + "---|" * len(self.by_rows),
            "| drafts accepted a chain | " + " | ".join(f"{v:.2f}" for v in self.by_rows.values()) + " |",
            "",
            "A chain of m rows drafts its first m tokens; deeper rows do not change them.",
            "",
        ]

    def _of_state_head(self) -> list[str]:
        """The table of the state head beside the look-ahead rows; nothing without one."""
        state = self.state
        if state is None:
            return []
        width = max(len(self.match), len(state.match))

        def filled(values: Sequence[float]) -> str:
            return " | ".join([f"{v:.2f}" for v in values] + ["–"] * (width - len(values)))

        lines = [
            "## Without look-ahead rows: the state head",
            "",
            f"{state.chain.contexts} chains of {len(state.match)} drafts at evenly spread places: "
            f"**{state.chain.accepted_per_iteration:.2f}** drafts accepted a chain, with look-ahead rows "
            f"{sum(self.accepted):.2f} of {len(self.match)}.",
            "",
            "| match, one of the n best siblings | " + _drafts(width) + " |",
            "|---|" + "---|" * width,
        ]
        for n, (rows, own) in enumerate(zip(self.siblings, state.siblings, strict=False), start=1):
            lines.append(f"| {n}, look-ahead rows | {filled(rows)} |")
            lines.append(f"| {n}, state head | {filled(own)} |")
        lines.append(f"| accepted (all before it, too), state head | {filled(state.chain.accepted)} |")
        gap = [ideal - own for ideal, own in zip(self.floor.one_token, state.match, strict=False)]
        lines.append(f"| gap: what the state head lacks to the ideal guess, knowing the token before | {filled(gap)} |")
        if state.recall:
            lines += ["", "| target's token among the n best, state head | " + _drafts(width) + " |"]
            lines.append("|---|" + "---|" * width)
            lines += [f"| {n} | {filled(own)} |" for n, own in zip(self.best, state.recall, strict=False)]
        return [*lines, ""]

    def save(self, path: Path) -> None:
        """Write JSON where the name ends with .json, else Markdown."""
        text = self.to_json() if path.suffix == ".json" else self.to_markdown()
        write_atomically(path, text if text.endswith("\n") else text + "\n")


def draft_report(
    engine: Engine,
    lookahead: LookaheadEmbeddings,
    held: Sequence[HeldOut],
    config: TrainingConfig,
    *,
    floor_places: int = FLOOR_PLACES,
    floor_repeats: int = FLOOR_REPEATS,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> DraftReport:
    """Measure a file at `config.evaluate_contexts` places, and the ideal guesses at `floor_places` a text.

    Raises:
        LookaheadError: the file is for another model. Cancelled.
    """
    model = engine.model
    check_file(model, lookahead)
    settings = replace(chain_settings(config, lookahead.count), siblings=MOST_SIBLINGS)
    bigrams = engine.read_bigrams(progress, cancel) if config.bigrams and lookahead.sampler is None else None
    parts = parts_of(model, lookahead, bigrams)
    store = PrefixStore(model, [h.ids for h in held], 0)
    reporter = ProgressReporter("Measuring drafts", len(held), "texts", progress, cancel)
    per = max(1, config.evaluate_contexts // len(held))
    generator = torch.Generator().manual_seed(0)
    tried: list[Tried] = []
    ideal: list[tuple[torch.Tensor, torch.Tensor]] = []
    with frozen(model):
        for number, text in enumerate(held):
            data = store.batch([number])
            one_text = try_chains(model, parts, data, [even_places(text, per, settings.k)], settings, generator)
            tried.append(one_text.view(per, settings.k))
            if floor_places:
                places = even_places(text, floor_places, settings.k)
                ideal.append(ideal_matches(model, data, places, settings, floor_repeats, generator, cancel))
            reporter.update(number + 1)
    tried_all = Tried(*(torch.cat(parts) for parts in zip(*tried, strict=True)))
    ranks, siblings = tried_all.ranks, tried_all.siblings
    blind, one = (torch.cat([pair[i] for pair in ideal]) if ideal else torch.zeros(0, settings.k) for i in (0, 1))
    return DraftReport(
        file=Path(lookahead.origin).name,
        match=_means(siblings[..., 0]),
        accepted=_means((ranks == 0).float().cumprod(1)),
        siblings=tuple(_means(siblings[..., n]) for n in range(MOST_SIBLINGS)),
        recall=recalls(tried_all),
        best=BEST,
        floor=Floor(_means(blind), _means(one), len(blind), settings.top_k * floor_repeats),
        contexts=len(ranks),
        texts=len(held),
        temperature=settings.temperature,
        top_k=settings.top_k,
        state=measure_state_file(engine, lookahead, held, config, cancel=cancel),
    )


def _drafts(width: int) -> str:
    return " | ".join(f"draft {j + 1}" for j in range(width))


def _means(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(values.float().mean(0).tolist()) if len(values) else ()
