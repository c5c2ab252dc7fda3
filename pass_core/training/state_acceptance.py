"""What a state head's drafts are worth on held-out text, by the same rules as the drafts of look-ahead rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pass_core.engine import Engine
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.lookahead.state_head import STATE_CANDIDATES
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken
from pass_core.training.acceptance import (
    Attempt,
    ChainSettings,
    HeldOut,
    Tried,
    fitted_candidates,
    joined,
    recalls,
    spread,
    summary,
    try_rows,
    walk,
)
from pass_core.training.config import TrainingConfig
from pass_core.training.coupled import MOST_SIBLINGS
from pass_core.training.objective import Targets
from pass_core.training.options import check_file
from pass_core.training.state_data import BLOCK, Block, StateStore, rows_of
from pass_core.training.state_figures import StateAcceptance
from pass_core.training.state_parts import StateHead
from pass_core.training.step import frozen


@torch.no_grad()
def try_state_chains(
    model: LanguageModel,
    head: StateHead,
    block: Block,
    places: Sequence[Sequence[int]],
    settings: ChainSettings,
    generator: torch.Generator,
) -> Tried:
    """Draft one chain at each place of each of the block's texts, equally many for all."""
    device = block.ids.device
    drafted = head.vocabulary
    tried: list[Tried] = []
    for number, of_text in enumerate(places):
        place = torch.tensor(list(of_text), device=device)
        rows = rows_of(block, torch.full_like(place, number), place, settings.k)
        embedded = model.input_embedding(rows.before)
        guesses = head.guesses(rows.hidden, embedded[:, 0], settings.k)
        plain, fitted = (
            torch.full((states.shape[0] * settings.k, model.vocabulary_size), float("-inf"), device=device).index_copy_(
                1, drafted, model.logits(states.flatten(0, 1), drafted)
            )
            for states in (guesses, head.fitted(guesses, embedded))
        )
        targets = Targets(*(t.flatten(0, 1) for t in (rows.targets.ids, rows.targets.log_probs)))
        chosen = block.ids[number, place[:, None] + 1 + torch.arange(settings.k, device=device)].flatten()
        found = try_rows(fitted_candidates(plain, fitted, STATE_CANDIDATES), targets, chosen, settings, generator)
        tried.append(found.view(len(place), settings.k))
    return joined(tried)


def measure_state(
    model: LanguageModel,
    head: StateHead,
    held: Sequence[HeldOut],
    store: StateStore,
    settings: ChainSettings,
    *,
    contexts: int,
    as_decoding: bool = False,
    seed: int = 0,
) -> StateAcceptance:
    """Try chains at `contexts` places, spread evenly over the held-out texts, or as decoding comes to them.

    Args:
        store: of these texts.
        settings: k at most the head's depth.
    """
    generator = torch.Generator().manual_seed(seed)

    def opened(numbers: Sequence[int]) -> Attempt:
        block = store.block(numbers[0] // BLOCK)
        return lambda places: try_state_chains(model, head, block, places, settings, generator)

    if as_decoding:  # every call of it drafts
        most = max(1, contexts // len(held))
        tried, domains = walk(held, opened, settings.k, most, BLOCK, beyond=1)
    else:
        tried, domains = spread(held, opened, settings.k, contexts, BLOCK)
    by_siblings = tried.siblings.mean(0).T
    return StateAcceptance(
        summary(tried, domains),
        tuple(tuple(row) for row in by_siblings.tolist()),
        float(tried.matches.cumprod(1).sum(1).mean()),
        recalls(tried),
    )


def state_settings(depth: int, temperature: float, top_k: int) -> ChainSettings:
    """Of the chains that a state head is measured with."""
    return ChainSettings(depth, temperature, top_k, MOST_SIBLINGS)


def measure_state_file(
    engine: Engine,
    lookahead: LookaheadEmbeddings,
    held: Sequence[HeldOut],
    config: TrainingConfig,
    *,
    as_decoding: bool = False,
    cancel: CancelToken | None = None,
) -> StateAcceptance | None:
    """The figures of a file's state head at as many held-out places as `config` asks for; None without one.

    Raises:
        LookaheadError: the file is for another model. Cancelled.
    """
    model = engine.model
    check_file(model, lookahead)
    if lookahead.state is None:
        return None
    head = StateHead.of(lookahead.state).to(model.device)
    settings = state_settings(head.depth, config.temperature, config.top_k)
    with frozen(model):
        store = StateStore(model, [h.ids for h in held], 0, config.top_k, cancel)
        return measure_state(
            model, head, held, store, settings, contexts=config.evaluate_contexts, as_decoding=as_decoding
        )
