"""The learnable state head as a torch module, and the loss of its chains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from pass_core.lookahead.embeddings import SamplerWeights, StateHeadWeights
from pass_core.lookahead.sampler import from_state, rms, rounded
from pass_core.models.language_model import LanguageModel
from pass_core.training.objective import Targets, choose_vocabulary, divergence, match
from pass_core.training.parts import Sampler
from pass_core.training.state_config import StateHeadConfig
from pass_core.training.state_data import Rows
from pass_core.training.step import part_logits

SHARED = 16  # places whose drafts are scored over one part of the vocabulary
SAMPLED = 512  # tokens of it that stand for the rest
ACCEPTANCE_SHARES = 0.2, 0.85, 1.2  # first and largest share of the acceptance in the loss, its rise over the run
ACCEPTANCE, DIVERGENCE, LEAST_DIVERGENCE, GUESS = 2.4, 0.3, 0.05, 0.1  # weights
GUESSES = 0.25  # of the places, whose guesses also learn by themselves: candidates are read from them
LEAST_REACH = 0.3  # share of the weight that a draft passes on when it never matches
_ABSENT = -1e4  # log-probability of a token that cannot be drafted; its exponential is 0


class StateHead(nn.Module):
    """The state head (`pass_core.lookahead.state_head`): guess and fit, float32, with D steps each.

    It starts with W_out at zero, so that untrained guesses are the state itself.
    """

    vocabulary: torch.Tensor

    def __init__(self, guess: Sampler, fit: Sampler, vocabulary: torch.Tensor) -> None:
        super().__init__()
        self.guess, self.fit = guess, fit
        self.register_buffer("vocabulary", vocabulary, persistent=False)

    @classmethod
    def new(cls, hidden: int, config: StateHeadConfig, vocabulary: torch.Tensor) -> StateHead:
        """An untrained head, from the config's seed, for the tokens `vocabulary` [n]."""
        generator = torch.Generator().manual_seed(config.seed)

        def layer(inner: int) -> Sampler:
            w_in = torch.randn(inner, 2 * hidden, generator=generator) / math.sqrt(2 * hidden)
            return Sampler(w_in, torch.zeros(config.depth, inner), torch.zeros(hidden, inner))

        return cls(layer(config.inner), layer(config.fit_inner), vocabulary)

    @classmethod
    def of(cls, weights: StateHeadWeights) -> StateHead:
        """A file's head."""
        guess, fit = (Sampler(w.w_in.float(), w.step.float(), w.w_out.float()) for w in (weights.guess, weights.fit))
        return cls(guess, fit, weights.vocabulary)

    @property
    def depth(self) -> int:
        """D, how deep it drafts."""
        return int(self.guess.step.shape[0])

    def guesses(self, hidden: torch.Tensor, token: torch.Tensor, depth: int) -> torch.Tensor:
        """[places, depth, hidden] of states [places, hidden] and embeddings of the tokens that they predicted, as
        `pass_core.lookahead.state_head.guess` has them for one place. What depths share is computed once."""
        w_in, step, w_out = (w.to(hidden.dtype) for w in (self.guess.w_in, self.guess.step, self.guess.w_out))
        shared = (
            from_state(hidden, w_in, step.new_zeros(())) + rounded(rms(token), w_in) @ w_in[:, hidden.shape[-1] :].T
        )
        return hidden[:, None] + F.silu(shared[:, None] + step[:depth]) @ w_out.T

    def fitted(self, guesses: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """What drafts are read from [places, depth, hidden]: the first guess, which knows its token, and deeper ones,
        each fitted to the token right before the drafted one, of embedding `before` [places, depth, hidden]."""
        deeper = guesses[:, 1:]
        if not deeper.shape[1]:
            return guesses
        steps = torch.arange(1, guesses.shape[1], device=guesses.device).expand(deeper.shape[:2])
        fitted = self.fit(deeper.flatten(0, 1), before[:, 1:].flatten(0, 1), steps.flatten())
        return torch.cat((guesses[:, :1], fitted.view_as(deeper)), 1)

    def weights(self, dtype: torch.dtype) -> StateHeadWeights:
        """A copy of the present values, on the CPU."""

        def copied(layer: Sampler) -> SamplerWeights:
            values = (layer.w_in, layer.step, layer.w_out)
            return SamplerWeights(*(v.detach().to(device="cpu", dtype=dtype, copy=True) for v in values))

        return StateHeadWeights(copied(self.guess), copied(self.fit), self.vocabulary.cpu())


@dataclass(frozen=True)
class StateLoss:
    """A step's loss, with gradient, and its means: divergence of the drafts, and how often draft j matches [D]."""

    total: torch.Tensor
    divergence: torch.Tensor
    matches: torch.Tensor


def draftable(targets: Targets, vocabulary: torch.Tensor) -> tuple[Targets, Targets, torch.Tensor]:
    """Targets as places in the draft vocabulary [n], rising: for the divergence (other tokens have no probability, and
    count as place 0), for the match (others stand at -1, where no draft does), and the probability [...] of the tokens
    that can be drafted."""
    places = torch.searchsorted(vocabulary, targets.ids).clamp_max(len(vocabulary) - 1)
    there = vocabulary[places] == targets.ids
    log_probs = torch.where(there, targets.log_probs, torch.full_like(targets.log_probs, _ABSENT))
    known = torch.where(there, places, torch.zeros_like(places))
    foreign = torch.where(there, places, torch.full_like(places, -1))
    return Targets(known, log_probs), Targets(foreign, targets.log_probs), log_probs.exp().sum(-1)


def acceptance_share(progress: float) -> float:
    """Of the loss, when `progress` (0 to 1) of the run is done: the divergence leads, the acceptance follows."""
    first, largest, rise = ACCEPTANCE_SHARES
    return min(largest, first + rise * progress)


def state_loss(
    model: LanguageModel,
    head: StateHead,
    rows: Rows,
    frequent: torch.Tensor,
    generators: Sequence[torch.Generator],
    config: StateHeadConfig,
    share: float,
) -> StateLoss:
    """The loss of a step's chains: the divergence from the model's own distributions, and the drafts that the coupled
    rule does not accept, each weighted by how likely the chain gets there.

    Args:
        frequent: places of the most frequent tokens in the head's draft vocabulary.
        generators: one for each `SHARED` places.
        share: of the acceptance.
    """
    depth, drafted = head.depth, head.vocabulary
    groups = len(generators)
    per = len(rows.hidden) // groups
    many = groups * per
    embedded = model.input_embedding(rows.before[:many])
    guesses = head.guesses(rows.hidden[:many], embedded[:, 0], depth)
    fitted = head.fitted(guesses, embedded)
    targets = Targets(*(t[:many].view(groups, per * depth, -1) for t in (rows.targets.ids, rows.targets.log_probs)))
    to_learn, to_match, mass = draftable(targets, drafted)
    vocabulary = choose_vocabulary(to_learn, frequent, len(drafted), generators, SAMPLED)
    steps = torch.arange(depth, device=mass.device).repeat(per).expand(groups, -1)
    logits = part_logits(model, fitted.view(groups, per * depth, -1), drafted[vocabulary.ids])
    diverged = divergence(logits, to_learn, vocabulary) * mass
    matched = match(logits, to_match, vocabulary, steps, config.temperature, config.top_k)
    kept = LEAST_REACH + (1 - LEAST_REACH) * matched.draft.detach().view(-1, depth)
    reach = torch.cat((torch.ones_like(kept[:, :1]), kept[:, :-1].cumprod(1)), 1).view(groups, -1)
    missed = 1 - (1 - config.few_weight) * matched.draft - config.few_weight * matched.few
    weights = (1 - share) * DIVERGENCE + LEAST_DIVERGENCE, share * ACCEPTANCE
    total = (reach * (weights[0] * diverged + weights[1] * missed)).mean()
    few = max(1, round(GUESSES * groups))  # groups
    part = vocabulary.of_first(few)
    alone = part_logits(model, guesses.view(groups, per * depth, -1)[:few], drafted[part.ids])
    guessed = divergence(alone, to_learn.of_first(few), part) * mass[:few]
    total = total + GUESS * (reach[:few] * guessed).mean()
    return StateLoss(total, diverged.detach().mean(), matched.draft.detach().view(-1, depth).mean(0))
