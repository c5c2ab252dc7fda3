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

import torch

from pass_core.decoding.drafting import SAMPLER_CANDIDATES
from pass_core.models.language_model import LanguageModel
from pass_core.training.chains import Chains
from pass_core.training.forward import lookahead_forward
from pass_core.training.head import scores
from pass_core.training.parts import LookaheadParts
from pass_core.training.store import PrefixStore


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
        by_position: how often draft j equals the target's token on the model's own text, whatever happened before it.
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


def process(logits: torch.Tensor, temperature: float, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, log-probabilities) [rows, k] of the kept tokens after temperature and top-k, likeliest first."""
    best = (logits / temperature).topk(min(top_k, logits.shape[-1]), -1)
    return best.indices, best.values - best.values.logsumexp(-1, keepdim=True)


def coupled_draft(
    p_ids: torch.Tensor,
    p_log: torch.Tensor,
    q_ids: torch.Tensor,
    q_log: torch.Tensor,
    chosen: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Drafts argmax log q + g with the noise g that made `chosen` the target's token; all [rows, k], result [rows].

    Tokens of q outside p's support have free noise. Rows whose chosen token p does not hold get free noise throughout.
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
    return q_ids.gather(1, (q_log + noise).argmax(-1, keepdim=True)).squeeze(1)


def full_chains(contexts: Sequence[Sequence[int]], count: int) -> Chains:
    """One chain of all `count` steps at each of the contexts of each sequence (equally many for all)."""
    context = torch.tensor([list(c) for c in contexts])
    per = context.shape[1]
    depth = torch.arange(count).repeat(len(contexts), per)
    chain = torch.arange(per).repeat_interleave(count)[None].expand(len(contexts), -1).contiguous()
    return Chains(context.repeat_interleave(count, 1), chain, depth, torch.ones_like(depth, dtype=torch.bool))


@torch.no_grad()
def measure(
    model: LanguageModel,
    parts: LookaheadParts,
    held: Sequence[HeldOut],
    store: PrefixStore,
    *,
    k: int,
    contexts: int,
    temperature: float,
    top_k: int,
    seed: int = 0,
    batch: int = 8,
) -> Acceptance:
    """Try one chain of `k` drafts at `contexts` places, spread evenly over the held-out sequences."""
    k = min(k, parts.count)
    per = max(1, contexts // len(held))
    generator = torch.Generator().manual_seed(seed)
    hits: list[torch.Tensor] = []
    tops: list[torch.Tensor] = []
    domains: list[str] = []
    for first in range(0, len(held), batch):
        numbers = list(range(first, min(first + batch, len(held))))
        data = store.batch(numbers)
        places = []
        for n in numbers:
            span = len(held[n].ids) - k - held[n].start
            places.append([held[n].start + (span * (2 * i + 1)) // (2 * per) for i in range(per)])
        chains = full_chains(places, k).to(model.device)
        hidden = lookahead_forward(model, parts, data.prefix, chains)
        for b, n in enumerate(numbers):
            at = chains.teacher[b]
            parent = data.prefix.ids[b, at]
            p_log = data.targets.log_probs[b, at][:, :top_k] / temperature
            p_log = p_log - p_log.logsumexp(-1, keepdim=True)
            p_ids = data.targets.ids[b, at][:, :top_k]
            logits = scores(model, hidden[b])
            if parts.sampler is not None:
                corrected = parts.sampler(hidden[b], model.input_embedding(parent), chains.depth[b])
                coherent = scores(model, corrected)
                candidates = logits.topk(min(SAMPLER_CANDIDATES, logits.shape[-1]), -1).indices
                logits = torch.full_like(logits, float("-inf")).scatter_(1, candidates, coherent.gather(1, candidates))
            q_ids, q_log = process(logits, temperature, top_k)
            chosen = data.prefix.ids[b, at + 1]
            draft = coupled_draft(p_ids, p_log, q_ids, q_log, chosen, generator)
            hits.append((draft == chosen).view(per, k))
            tops.append((q_ids[:, 0] == p_ids[:, 0]).view(per, k))
            domains.extend([held[n].domain] * per)
    hit, top = torch.cat(hits).float(), torch.cat(tops).float()
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
