"""The best that any drafter could guess, from the model itself: what blindness costs, apart from what a drafter lacks.

LA_j guesses token n+1+j from x_1..x_n and cannot see the tokens between. A guess that knew the model perfectly would
mix the model's predictions over all tokens that may come between, by their probability:

- *blind*: over everything between, which is all that the look-ahead row itself could know;
- *one token*: over everything between but the token right before the guessed one, which is known when drafts are
  chosen. At LA_1 nothing else is between: this guess is the model's own prediction.

The first token between is enumerated over the support of the sampling settings; the others are sampled from the model.
With the token before known, each path counts by how likely the model finds that token after it. A mean
over few paths is a little worse than the ideal guess, so these figures are lower bounds of the ideal ones.
Source: "Beyond Parallel Blindness", arXiv 2608.27339 (floor and model gap, with none and with one realised token).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from pass_core.models.cache_argument import cache_argument
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken
from pass_core.training.acceptance import ChainSettings, process
from pass_core.training.coupled import among_best, on_drafts
from pass_core.training.forward import Prefix
from pass_core.training.store import Batch

WIDEST = 64  # tokens of a mixture that are compared


@dataclass(frozen=True, slots=True)
class Floor:
    """Match by position of the ideal guess, over `places` places with `paths` sampled paths each."""

    blind: tuple[float, ...]
    one_token: tuple[float, ...]
    places: int
    paths: int


class _Paths:
    """The frozen model over many short continuations of one sequence, each after its own context."""

    def __init__(self, model: LanguageModel, prefix: Prefix, contexts: torch.Tensor) -> None:
        """contexts: [paths] context length of each path."""
        self.model, self.contexts = model, contexts
        self.tokens = prefix.ids.shape[1]
        self.cache: Any = _growing(prefix)
        self.path = torch.empty(0, dtype=torch.long, device=contexts.device)
        self.level = torch.empty(0, dtype=torch.long, device=contexts.device)
        self.kept = torch.empty(0, dtype=torch.bool, device=contexts.device)

    def after(self, ids: torch.Tensor, level: int, *, keep: bool) -> torch.Tensor:
        """Final states [paths, hidden] after putting token ids [paths] at `level` (0-based) of each path.

        Args:
            keep: later tokens of the path see this one; else it is a leaf.
        """
        count = len(ids)
        device = ids.device
        path = torch.arange(count, device=device)
        seen = (self.path[None] == path[:, None]) & (self.level[None] < level) & self.kept[None]
        prefix = torch.arange(self.tokens, device=device)[None] < self.contexts[:, None]
        own = torch.eye(count, dtype=torch.bool, device=device)
        mask = torch.cat((prefix, seen, own), 1)[None, None]
        if getattr(self.model.model.config, "_attn_implementation", "sdpa") != "sdpa":
            low = torch.finfo(self.model.dtype).min
            mask = torch.zeros(mask.shape, dtype=self.model.dtype, device=device).masked_fill_(~mask, low)
        out: Any = self.model.base(
            input_ids=ids[None],
            attention_mask=mask,
            position_ids=(self.contexts + level)[None],
            **{cache_argument(self.model.base.forward): self.cache},
            use_cache=True,
        )
        self.path = torch.cat((self.path, path))
        self.level = torch.cat((self.level, torch.full_like(path, level)))
        self.kept = torch.cat((self.kept, torch.full_like(path, keep, dtype=torch.bool)))
        return out.last_hidden_state[0]


def _growing(prefix: Prefix) -> Cache:
    """A cache that starts with the prefix and keeps what is put behind it."""
    cache: Any = DynamicCache()
    for keys, values in zip(prefix.keys, prefix.values, strict=True):
        layer: Any = DynamicLayer()
        layer.keys, layer.values = keys, values
        layer.dtype, layer.device, layer.is_initialized = keys.dtype, keys.device, True
        cache.layers.append(layer)
    return cache


@torch.no_grad()
def ideal_matches(
    model: LanguageModel,
    data: Batch,
    places: Sequence[int],
    settings: ChainSettings,
    repeats: int,
    generator: torch.Generator,
    cancel: CancelToken | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(blind, one token) [places, k]: the ideal guess's match at each context length of a batch of one sequence.

    Args:
        repeats: sampled continuations of each token that could come first.

    Raises:
        Cancelled.
    """
    k, top = settings.k, settings.top_k
    device = data.prefix.ids.device
    at = torch.tensor(list(places), device=device)
    count = len(places)
    text = data.prefix.ids[0]

    def truth(j: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The target that LA_j's draft is compared with, (ids, p) [places, top]: the row of token context + j - 1."""
        rows = at + j - 1
        log_p = data.targets.log_probs[0, rows][:, :top] / settings.temperature
        return data.targets.ids[0, rows][:, :top], log_p.softmax(-1)

    first_ids, first_p = truth(0)
    width = first_ids.shape[1] * repeats
    ids = first_ids.repeat_interleave(repeats, 1).flatten()
    weight = (first_p / repeats).repeat_interleave(repeats, 1)
    paths = _Paths(model, data.prefix, at.repeat_interleave(width))
    blind: list[torch.Tensor] = []
    one: list[torch.Tensor] = [torch.ones(count, device=device)]
    before: tuple[torch.Tensor, torch.Tensor] | None = None
    for j in range(1, k + 1):
        if cancel is not None:
            cancel.raise_if_cancelled()
        target = truth(j)
        if before is not None:
            # The true token before the guessed one, below each path of the tokens above it.
            known = text[at + j - 1]
            chance = (on_drafts(*before, known.repeat_interleave(width)[:, None])).view(count, width)
            leaf = paths.after(known.repeat_interleave(width), j - 1, keep=False)
            one.append(_match(model, leaf, weight * chance, target, settings))
        states = paths.after(ids, j - 1, keep=True)
        blind.append(_match(model, states, weight, target, settings))
        if j < k:
            before_ids, before_log = _processed(model, states, settings)
            before = before_ids, before_log.exp()
            uniform = torch.rand(len(ids), 1, generator=generator).to(device)
            drawn = (before[1].cumsum(-1) < uniform).sum(-1, keepdim=True).clamp_max(before_ids.shape[1] - 1)
            ids = before_ids.gather(1, drawn).squeeze(1)
    return torch.stack(blind, 1), torch.stack(one, 1)


def _processed(
    model: LanguageModel, states: torch.Tensor, settings: ChainSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    found = [process(model.logits(part), settings.temperature, settings.top_k) for part in states.split(256)]
    return torch.cat([i for i, _ in found]), torch.cat([p for _, p in found])


def _match(
    model: LanguageModel,
    states: torch.Tensor,
    weight: torch.Tensor,
    target: tuple[torch.Tensor, torch.Tensor],
    settings: ChainSettings,
) -> torch.Tensor:
    """[places] match of the mixture of what the model predicts after `states` [places · paths], by `weight`
    [places, paths] (zero weight everywhere counts as no guess)."""
    count = len(weight)
    ids, log_p = _processed(model, states, settings)
    total = weight.sum(1, keepdim=True)
    share = (weight / total.clamp_min(1e-20)).view(-1, 1) * log_p.exp()
    mixed = torch.zeros(count, model.vocabulary_size, device=states.device)
    mixed.scatter_add_(1, ids.view(count, -1), share.view(count, -1))
    best = mixed.topk(min(WIDEST, mixed.shape[1]), -1)
    q = best.values / best.values.sum(-1, keepdim=True).clamp_min(1e-20)
    p = on_drafts(target[0], target[1], best.indices)
    return torch.where(total.squeeze(1) > 0, among_best(p, q, 1), torch.zeros(count, device=states.device))
