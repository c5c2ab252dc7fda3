"""Held-out acceptance: how many drafts of one chain the coupled rule would accept, without decoding anything.

The held-out text was sampled by the model itself at the settings in question. Given that a token was the target's
choice, y = argmax log p + g, the shared Gumbel noise g has a known distribution (a maximum, and the others truncated
below it). Drawing g from it and drafting with argmax log q + g follows the law of real decoding along that text, at
every position at once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch

from pass_core.lookahead.sampler import HEAD_CANDIDATES
from pass_core.models.language_model import LanguageModel
from pass_core.training.chains import Chains
from pass_core.training.config import TrainingConfig
from pass_core.training.coupled import among_best, on_drafts
from pass_core.training.forward import lookahead_forward
from pass_core.training.parts import TrainableParts
from pass_core.training.store import Batch, PrefixStore


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
        raw = json.loads(text)
        for name in ("by_position", "accepted", "top1"):
            raw[name] = tuple(raw[name])
        return cls(**raw)


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """Drafts in a chain, and the sampling settings of drafts and target."""

    k: int = 5
    temperature: float = 0.8
    top_k: int = 10


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
    """How a chain's drafts fared on the true text, [sequences, places, k] each.

    Attributes:
        ranks: how many of q's tokens ranked above the target's token under the shared noise; top_k where q lacks it.
        tops: whether the draft's likeliest token is the target's likeliest.
        matches: how often such a draft matches, over all that the target could have chosen (closed form).
    """

    ranks: torch.Tensor
    tops: torch.Tensor
    matches: torch.Tensor

    @property
    def hits(self) -> torch.Tensor:
        """Whether draft j is the target's token."""
        return self.ranks == 0


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
    ranks: list[torch.Tensor] = []
    tops: list[torch.Tensor] = []
    matches: list[torch.Tensor] = []
    for b in range(len(places)):
        at = chains.teacher[b]
        p_log = data.targets.log_probs[b, at][:, : settings.top_k] / settings.temperature
        p_log = p_log - p_log.logsumexp(-1, keepdim=True)
        p_ids = data.targets.ids[b, at][:, : settings.top_k]
        logits = model.logits(hidden[b])
        fitted = parts.fitted(model, hidden[b], data.prefix.ids[b, at], chains.depth[b])
        if fitted is not None:
            coherent = model.logits(fitted)
            candidates = logits.topk(min(HEAD_CANDIDATES, logits.shape[-1]), -1).indices
            logits = torch.full_like(logits, float("-inf")).scatter_(1, candidates, coherent.gather(1, candidates))
        q_ids, q_log = process(logits, settings.temperature, settings.top_k)
        chosen = data.prefix.ids[b, at + 1]
        ranking = coupled_ranking(p_ids, p_log, q_ids, q_log, chosen, generator)
        ranks.append((ranking != chosen[:, None]).cumprod(1).sum(1).view(per, k))
        tops.append((q_ids[:, 0] == p_ids[:, 0]).view(per, k))
        matches.append(among_best(on_drafts(p_ids, p_log.exp(), q_ids), q_log.exp(), 1).view(per, k))
    return Tried(torch.stack(ranks), torch.stack(tops), torch.stack(matches))


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
    k = settings.k
    per = max(1, contexts // len(held))
    generator = torch.Generator().manual_seed(seed)
    hits: list[torch.Tensor] = []
    tops: list[torch.Tensor] = []
    domains: list[str] = []
    for first in range(0, len(held), batch):
        numbers = list(range(first, min(first + batch, len(held))))
        places = [even_places(held[n], per, k) for n in numbers]
        tried = try_chains(model, parts, store.batch(numbers), places, settings, generator)
        hits.append(tried.hits.flatten(0, 1))
        tops.append(tried.tops.flatten(0, 1))
        domains.extend(held[n].domain for n in numbers for _ in range(per))
    return _summary(torch.cat(hits), torch.cat(tops), domains)


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
    generator = torch.Generator().manual_seed(seed)
    hits: list[torch.Tensor] = []
    tops: list[torch.Tensor] = []
    domains: list[str] = []
    for first in range(0, len(held), batch):
        numbers = list(range(first, min(first + batch, len(held))))
        data = store.batch(numbers)
        at = [held[n].start for n in numbers]
        for _ in range(iterations):
            going = [c + settings.k < len(held[n].ids) for c, n in zip(at, numbers, strict=True)]
            if not any(going):
                break
            places = [[c if go else 1] for c, go in zip(at, going, strict=True)]
            tried = try_chains(model, parts, data, places, settings, generator)
            for b, (go, n) in enumerate(zip(going, numbers, strict=True)):
                if go:
                    hits.append(tried.hits[b])
                    tops.append(tried.tops[b])
                    domains.append(held[n].domain)
                    at[b] += int(tried.hits[b, 0].cumprod(0).sum()) + 2
    return _summary(torch.cat(hits), torch.cat(tops), domains)


def _summary(hits: torch.Tensor, tops: torch.Tensor, domains: Sequence[str]) -> Acceptance:
    """Figures of chains: hits and tops [chains, k], and each chain's kind of text."""
    hit, top = hits.float(), tops.float()
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
