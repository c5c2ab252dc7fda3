"""Held-out acceptance: how many drafts of one chain the coupled rule would accept, without decoding anything.

The held-out text was sampled by the model itself at the settings in question. Given that a token was the target's
choice, y = argmax log p + g, the shared Gumbel noise g has a known distribution (a maximum, and the others truncated
below it). Drawing g from it and drafting with argmax log q + g follows the law of real decoding along that text, at
every position at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from pass_core.lookahead.sampler import HEAD_CANDIDATES
from pass_core.models.language_model import LanguageModel
from pass_core.training.chains import Chains
from pass_core.training.config import TrainingConfig
from pass_core.training.coupled import among_best, on_drafts
from pass_core.training.forward import lookahead_forward
from pass_core.training.objective import Targets
from pass_core.training.parts import TrainableParts
from pass_core.training.store import Batch, PrefixStore

BEST = (1, 2, 3, 4, 6, 8)  # numbers of best drafts among which the target's token is looked for


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out sequence: `ids`, of which those from `start` on are the model's own, and its kind of text."""

    ids: torch.Tensor
    start: int
    domain: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Acceptance over `contexts` places.

    Attributes:
        by_position: how often draft j equals the target's token on the model's own text, accepted before or not.
        accepted: how often draft j is accepted (it and all drafts before it).
        accepted_per_iteration: the sum of `accepted`.
        top1: how often draft j's likeliest token is the target's likeliest.
        domains: accepted drafts per iteration for each kind of text.
    """

    by_position: tuple[float, ...]
    accepted: tuple[float, ...]
    accepted_per_iteration: float
    top1: tuple[float, ...]
    domains: dict[str, float]
    contexts: int

    def to_json(self) -> str:
        """A JSON object that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Acceptance:
        return cls.from_raw(json.loads(text))

    @classmethod
    def from_raw(cls, raw: dict[str, Any]) -> Acceptance:
        """From what `dataclasses.asdict` made of it, through JSON or not."""
        known = dict(raw)
        for name in ("by_position", "accepted", "top1"):
            known[name] = tuple(known[name])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """Drafts in a chain, the sampling settings of drafts and target, and up to how many siblings are looked at."""

    k: int = 5
    temperature: float = 0.8
    top_k: int = 10
    siblings: int = 1


def chain_settings(config: TrainingConfig, count: int) -> ChainSettings:
    """Of the chains that held-out acceptance is measured with, for L = `count`."""
    return ChainSettings(min(5, count), config.temperature, config.top_k)


def process(logits: torch.Tensor, temperature: float, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, log-probabilities) [rows, k] of the kept tokens after temperature and top-k, likeliest first."""
    best = (logits / temperature).topk(min(top_k, logits.shape[-1]), -1)
    return best.indices, best.values - best.values.logsumexp(-1, keepdim=True)


def coupled_ranking(
    p_ids: torch.Tensor,
    p_log: torch.Tensor,
    q_ids: torch.Tensor,
    q_log: torch.Tensor,
    chosen: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """q's tokens by falling log q + g, with the noise g that made `chosen` the target's token; all [rows, k].

    The first is the draft, the first n are the n best of a tree. Tokens of q outside p's support have free noise. Rows
    whose chosen token p does not hold get free noise throughout.
    """
    rows, k = q_ids.shape

    def gumbel(*shape: int) -> torch.Tensor:
        u = torch.rand(*shape, generator=generator).clamp_(1e-12, 1 - 1e-7)
        return -torch.log(-torch.log(u)).to(q_log.device)

    same = q_ids[:, :, None] == p_ids[:, None, :]
    location = torch.where(same, p_log[:, None, :], torch.tensor(float("-inf"), device=p_log.device)).amax(-1)
    maximum, free = gumbel(rows, 1), gumbel(rows, k)
    known = torch.isfinite(location)
    at = torch.where(known, location, torch.zeros_like(location))
    below = -torch.logaddexp(-maximum, -(at + free)) - at
    noise = torch.where(known, below, free)
    noise = torch.where(q_ids == chosen[:, None], maximum - at, noise)
    held = (p_ids == chosen[:, None]).any(-1, keepdim=True)
    noise = torch.where(held, noise, free)
    return q_ids.gather(1, (q_log + noise).sort(dim=-1, descending=True, stable=True).indices)


def full_chains(contexts: Sequence[Sequence[int]], count: int) -> Chains:
    """One chain of all `count` steps at each of the contexts of each sequence (equally many for all)."""
    context = torch.tensor([list(c) for c in contexts])
    per = context.shape[1]
    depth = torch.arange(count).repeat(len(contexts), per)
    chain = torch.arange(per).repeat_interleave(count)[None].expand(len(contexts), -1).contiguous()
    return Chains(context.repeat_interleave(count, 1), chain, depth, torch.ones_like(depth, dtype=torch.bool))


class Tried(NamedTuple):
    """How a chain's drafts fared on the true text, [sequences, places, k] each (one more axis in `siblings`).

    Attributes:
        ranks: how many of q's tokens ranked above the target's token under the shared noise; top_k where q lacks it.
        tops: whether the draft's likeliest token is the target's likeliest.
        siblings: [..., k, n] how often one of the 1 to n best drafts matches, over all that the target could have
            chosen (closed form).
    """

    ranks: torch.Tensor
    tops: torch.Tensor
    siblings: torch.Tensor

    @property
    def hits(self) -> torch.Tensor:
        """Whether draft j is the target's token."""
        return self.ranks == 0

    @property
    def matches(self) -> torch.Tensor:
        """How often such a draft matches (closed form)."""
        return self.siblings[..., 0]

    def view(self, *shape: int) -> Tried:
        """Rows in another shape."""
        return Tried(self.ranks.view(shape), self.tops.view(shape), self.siblings.view(*shape, self.siblings.shape[-1]))


Attempt = Callable[[Sequence[Sequence[int]]], Tried]  # one chain at each of these context lengths of each text
Opened = Callable[[Sequence[int]], Attempt]  # of the held-out texts with these numbers


def try_rows(
    logits: torch.Tensor, targets: Targets, chosen: torch.Tensor, settings: ChainSettings, generator: torch.Generator
) -> Tried:
    """How drafts from `logits` [rows, vocabulary] fare, [rows] each, where the text goes on with `chosen` [rows].

    Args:
        targets: of the rows [rows, TEACHER_TOP].
    """
    p_log = targets.log_probs[:, : settings.top_k] / settings.temperature
    p_log = p_log - p_log.logsumexp(-1, keepdim=True)
    p_ids = targets.ids[:, : settings.top_k]
    q_ids, q_log = process(logits, settings.temperature, settings.top_k)
    ranking = coupled_ranking(p_ids, p_log, q_ids, q_log, chosen, generator)
    p = on_drafts(p_ids, p_log.exp(), q_ids)
    return Tried(
        (ranking != chosen[:, None]).cumprod(1).sum(1),
        q_ids[:, 0] == p_ids[:, 0],
        torch.stack([among_best(p, q_log.exp(), n + 1) for n in range(settings.siblings)], -1),
    )


def fitted_candidates(plain: torch.Tensor, fitted: torch.Tensor, most: int = HEAD_CANDIDATES) -> torch.Tensor:
    """Logits [rows, vocabulary] of a draft head: `fitted` ones of the `most` likeliest tokens of `plain`, no others."""
    candidates = plain.topk(min(most, plain.shape[-1]), -1).indices
    return torch.full_like(plain, float("-inf")).scatter_(1, candidates, fitted.gather(1, candidates))


def even_places(held: HeldOut, count: int, k: int) -> list[int]:
    """`count` context lengths, spread evenly over a held-out text, each with room for k drafts."""
    span = len(held.ids) - k - held.start
    return [held.start + (span * (2 * i + 1)) // (2 * count) for i in range(count)]


@torch.no_grad()
def try_chains(
    model: LanguageModel,
    parts: TrainableParts,
    data: Batch,
    places: Sequence[Sequence[int]],
    settings: ChainSettings,
    generator: torch.Generator,
) -> Tried:
    """Draft one chain of `settings.k` at each context of each sequence.

    Args:
        places: context lengths, equally many for every sequence of `data`.
    """
    k, per = settings.k, len(places[0])
    chains = full_chains(places, k).to(model.device)
    hidden = lookahead_forward(model, parts, data.prefix, chains)
    tried: list[Tried] = []
    for b in range(len(places)):
        at = chains.teacher[b]
        logits = model.logits(hidden[b])
        fitted = parts.fitted(model, hidden[b], data.prefix.ids[b, at], chains.depth[b])
        if fitted is not None:
            logits = fitted_candidates(logits, model.logits(fitted))
        targets = Targets(data.targets.ids[b, at], data.targets.log_probs[b, at])
        tried.append(try_rows(logits, targets, data.prefix.ids[b, at + 1], settings, generator).view(per, k))
    return joined(tried)


def joined(tried: Sequence[Tried]) -> Tried:
    """What was tried in several texts, side by side."""
    return Tried(*(torch.stack(parts) for parts in zip(*tried, strict=True)))


def measure(
    model: LanguageModel,
    parts: TrainableParts,
    held: Sequence[HeldOut],
    store: PrefixStore,
    settings: ChainSettings,
    *,
    contexts: int,
    seed: int = 0,
    batch: int = 8,
) -> Acceptance:
    """Try one chain at `contexts` places, spread evenly over the held-out sequences: quick, the same places always."""
    return summary(*spread(held, _opened(model, parts, store, settings, seed), settings.k, contexts, batch))


def _opened(
    model: LanguageModel, parts: TrainableParts, store: PrefixStore, settings: ChainSettings, seed: int
) -> Opened:
    generator = torch.Generator().manual_seed(seed)

    def opened(numbers: Sequence[int]) -> Attempt:
        data = store.batch(numbers)
        return lambda places: try_chains(model, parts, data, places, settings, generator)

    return opened


def spread(held: Sequence[HeldOut], opened: Opened, k: int, contexts: int, batch: int) -> tuple[Tried, list[str]]:
    """Chains of k drafts at `contexts` places, spread evenly over the texts: [chains, k] each, and their texts' kinds.

    Args:
        opened: tries chains in some texts.
        batch: texts at a time.
    """
    per = max(1, contexts // len(held))
    tried: list[Tried] = []
    domains: list[str] = []
    for first in range(0, len(held), batch):
        numbers = list(range(first, min(first + batch, len(held))))
        found = opened(numbers)([even_places(held[n], per, k) for n in numbers])
        tried.append(found.view(-1, found.ranks.shape[-1]))
        domains.extend(held[n].domain for n in numbers for _ in range(per))
    return Tried(*(torch.cat(parts) for parts in zip(*tried, strict=True))), domains


def measure_decoding(
    model: LanguageModel,
    parts: TrainableParts,
    held: Sequence[HeldOut],
    store: PrefixStore,
    settings: ChainSettings,
    *,
    iterations: int,
    seed: int = 0,
    batch: int = 8,
) -> Acceptance:
    """Walk along the held-out sequences as two-call decoding does, chain after chain, up to `iterations` in each.

    A decoder tries its next chain right after a token that it could not guess, and passes easy stretches in few
    chains: it meets harder places than `measure` does, so this figure is lower, and it is what a generation shows.
    """
    opened = _opened(model, parts, store, settings, seed)
    return summary(*walk(held, opened, settings.k, iterations, batch, beyond=2))


def walk(
    held: Sequence[HeldOut], opened: Opened, k: int, iterations: int, batch: int, *, beyond: int
) -> tuple[Tried, list[str]]:
    """Chains of k drafts as decoding comes to them, up to `iterations` in each text; else as `spread`.

    Args:
        beyond: tokens between the last accepted draft and the next chain's first, that chain's root included: 2 where
            a call without drafts comes first (two-call decoding), 1 where every call drafts.
    """
    tried: list[Tried] = []
    domains: list[str] = []
    for first in range(0, len(held), batch):
        numbers = list(range(first, min(first + batch, len(held))))
        attempt = opened(numbers)
        at = [held[n].start for n in numbers]
        for _ in range(iterations):
            going = [c + k < len(held[n].ids) for c, n in zip(at, numbers, strict=True)]
            if not any(going):
                break
            found = attempt([[c if go else 1] for c, go in zip(at, going, strict=True)])
            for b, (go, n) in enumerate(zip(going, numbers, strict=True)):
                if go:
                    tried.append(Tried(*(part[b] for part in found)))
                    domains.append(held[n].domain)
                    at[b] += int(found.hits[b, 0].cumprod(0).sum()) + beyond
    return Tried(*(torch.cat(parts) for parts in zip(*tried, strict=True))), domains


def recalls(tried: Tried) -> tuple[tuple[float, ...], ...]:
    """For each n of BEST how often the target's token is among the n best drafts of chains [chains, k], by position."""
    return tuple(tuple((tried.ranks < n).float().mean(0).tolist()) for n in BEST)


def summary(tried: Tried, domains: Sequence[str]) -> Acceptance:
    """Figures of chains [chains, k], given each chain's kind of text."""
    hit, top = tried.hits.float(), tried.tops.float()
    chain = hit.cumprod(1)
    total = chain.sum(1)
    kinds = {d: float(total[[x == d for x in domains]].mean()) for d in sorted(set(domains))}
    return Acceptance(
        tuple(hit.mean(0).tolist()),
        tuple(chain.mean(0).tolist()),
        float(total.mean()),
        tuple(top.mean(0).tolist()),
        kinds,
        len(domains),
    )
