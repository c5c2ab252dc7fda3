"""What a look-ahead file is worth and where it falls short, by position, beside the best that one could guess."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from pass_core.engine import Engine
from pass_core.files import write_atomically
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.progress import CancelToken, ProgressCallback, ProgressReporter
from pass_core.training.acceptance import HeldOut, Tried, chain_settings, even_places, try_chains
from pass_core.training.config import TrainingConfig
from pass_core.training.coupled import MOST_SIBLINGS
from pass_core.training.floor import Floor, ideal_matches
from pass_core.training.options import check_file
from pass_core.training.parts import parts_of
from pass_core.training.state_acceptance import measure_state_file
from pass_core.training.state_figures import StateAcceptance
from pass_core.training.step import frozen
from pass_core.training.store import PrefixStore

BEST = (1, 2, 3, 4, 6, 8)
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

    def to_json(self) -> str:
        """A JSON object."""
        return json.dumps(asdict(self), indent=1)

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
            *self._of_state_head(),
        ]
        return "\n".join(lines)

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
            "| match, one of the n best siblings | " + " | ".join(f"draft {j + 1}" for j in range(width)) + " |",
            "|---|" + "---|" * width,
        ]
        for n, (rows, own) in enumerate(zip(self.siblings, state.siblings, strict=False), start=1):
            lines.append(f"| {n}, look-ahead rows | {filled(rows)} |")
            lines.append(f"| {n}, state head | {filled(own)} |")
        return [*lines, f"| accepted (all before it, too), state head | {filled(state.chain.accepted)} |", ""]

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
                ideal.append(ideal_matches(model, data, places, settings, floor_repeats, generator))
            reporter.update(number + 1)
    ranks = torch.cat([t.ranks for t in tried])
    siblings = torch.cat([t.siblings for t in tried])
    blind, one = (torch.cat([pair[i] for pair in ideal]) if ideal else torch.zeros(0, settings.k) for i in (0, 1))
    return DraftReport(
        file=Path(lookahead.origin).name,
        match=_means(siblings[..., 0]),
        accepted=_means((ranks == 0).float().cumprod(1)),
        siblings=tuple(_means(siblings[..., n]) for n in range(MOST_SIBLINGS)),
        recall=tuple(_means((ranks < n).float()) for n in BEST),
        best=BEST,
        floor=Floor(_means(blind), _means(one), len(blind), settings.top_k * floor_repeats),
        contexts=len(ranks),
        texts=len(held),
        temperature=settings.temperature,
        top_k=settings.top_k,
        state=measure_state_file(engine, lookahead, held, config),
    )


def _means(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(values.float().mean(0).tolist()) if len(values) else ()
