"""What a training run is asked to do: validated, immutable, and recorded in the file it makes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar, Self


class TrainingError(ValueError):
    """A training run cannot start or resume; the message names the cause and the way out."""


def need(ok: bool, message: str) -> None:
    """
    Raises:
        TrainingError: not ok.
    """
    if not ok:
        raise TrainingError(message)


class TrainingKind(StrEnum):
    """What learns besides the L embeddings themselves (each leaves the model frozen)."""

    EMBEDDINGS = "embeddings"
    DEEP = "deep"
    ADAPTER = "adapter"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What every run is asked for, whatever learns in it.

    Attributes:
        PHASE: what learns, as checkpoints name it.
        FITTED: fields that a run with a time limit changes as it goes.
        steps: optimiser steps; the learning rate falls to zero over them.
        minutes: when above 0, the run takes as many steps as fit into what is left of them, and plans anew as it goes
            (`pass_core.training.budget`).
        warmup: steps of linear warm-up; then cosine.
        length: tokens per sequence; longer documents are cut.
        few_weight: weight, within the acceptance, of the best few of a tree; the single draft keeps the rest.
        ema: decay of the running mean that is measured and exported (0: the parts as they are). It warms up, so that
            short runs are not held back.
        temperature, top_k: the sampling settings of the acceptance.
        seed: of all that is drawn: initial values, order of the data, places.
        evaluate_every: steps between held-out evaluations (0: only at the end).
        evaluate_contexts: held-out places at which drafts are tried.
        checkpoint_every: steps between checkpoints.
    """

    PHASE: ClassVar[str] = ""
    FITTED: ClassVar[tuple[str, ...]] = ()

    steps: int = 400
    minutes: float = 0.0
    warmup: int = 10
    length: int = 256
    few_weight: float = 0.3
    ema: float = 0.999
    temperature: float = 0.8
    top_k: int = 10
    seed: int = 0
    evaluate_every: int = 50
    evaluate_contexts: int = 384
    checkpoint_every: int = 25

    def __post_init__(self) -> None:
        """
        Raises:
            TrainingError: a field is out of its range.
        """
        need(self.steps >= 1, f"at least one step is needed, not {self.steps}")
        need(self.minutes >= 0.0, f"minutes must not be negative, not {self.minutes}")
        need(self.length >= 16, f"a sequence needs at least 16 tokens, not {self.length}")
        need(0.0 <= self.few_weight <= 1.0, f"the weight of the best few must be in [0, 1], not {self.few_weight}")
        need(0.0 <= self.ema < 1.0, f"the decay of the running mean must be in [0, 1), not {self.ema}")
        need(self.temperature > 0, "training needs a temperature above 0 (the acceptance loss divides by it)")
        need(self.top_k >= 1, f"top-k must be at least 1 in training, not {self.top_k}")
        need(self.checkpoint_every >= 1, f"checkpoints need a step or more between them, not {self.checkpoint_every}")

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {k: (list(v) if isinstance(v, tuple) else v) for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read what `to_json` wrote; unknown keys of a later version are ignored."""
        return cls(**{k: raw[k] for k in cls.__dataclass_fields__ if k in raw})

    def differing(self, other: RunConfig) -> list[str]:
        """Fields by which `other`, of the same kind, is another run; of a run with a time limit not those that it
        changed as it went."""
        fitted = self.FITTED if self.minutes else ()
        names = self.__dataclass_fields__
        return [f for f in names if f not in fitted and getattr(self, f) != getattr(other, f)]


@dataclass(frozen=True, slots=True)
class TrainingConfig(RunConfig):
    """Everything that decides what a run computes; two runs with equal configs and data give equal files.

    Attributes:
        kind: embeddings alone, with deep vectors, with adapters, or with both.
        with_sampler: also train the sampler head.
        lookahead: L, 1 to 16.
        rank: rank of the adapters.
        targets: last names of the linears that get an adapter (such as "q_proj"); empty for all.
        sampler_inner: inner width of the sampler head.
        batch: sequences a step, over all processes.
        rows: look-ahead rows per sequence and step (rounded to whole chains).
        survival: each chain is one row deeper with this probability, so LA_j is trained survival^(j-1) as often
            as LA_1. This replaces weights 0.8^(j-1) on the loss, and saves rows.
        surprise: how much more often a chain starts before a token that the model gave a small probability: a place
            counts (1 - surprise) + surprise (1 - p). A decoder starts its chains there (0: all places alike).
        vector_lr, adapter_lr, sampler_lr: peak learning rates of embeddings and deep vectors, adapters, sampler.
        acceptance_weight: weight of the acceptance in that part; the divergence keeps the rest.
        plain_weight: with the sampler head, weight of the plain drafts' loss beside that of the corrected ones.
        acceptance_share: part of the run, at its end, in which the loss is the acceptance itself (what the coupled
            rule accepts of the processed distributions, in closed form) beside the divergence.
        decode_share: share of the chains that start where simulated decoding meets them (`training.walkers`).
        bigrams: without a sampler, train and measure with the model's own bigrams, as decoding drafts.
        patience: evaluations without a better result before the run ends early (0: never).
    """

    PHASE: ClassVar[str] = "parts"
    FITTED: ClassVar[tuple[str, ...]] = ("steps", "evaluate_every", "evaluate_contexts", "bigrams")

    kind: TrainingKind = TrainingKind.EMBEDDINGS
    with_sampler: bool = False
    lookahead: int = 6
    rank: int = 12
    targets: tuple[str, ...] = ()
    sampler_inner: int = 1024
    batch: int = 4
    rows: int = 192
    survival: float = 0.75
    surprise: float = 0.0
    vector_lr: float = 1.2e-2
    adapter_lr: float = 1.2e-3
    sampler_lr: float = 2e-3
    acceptance_share: float = 0.25
    acceptance_weight: float = 0.8
    plain_weight: float = 0.5
    decode_share: float = 0.5
    bigrams: bool = True
    patience: int = 0

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)  # super() does not work in classes with slots
        need(1 <= self.lookahead <= 16, f"look-ahead must be between 1 and 16, not {self.lookahead}")
        need(1 <= self.rank <= 256, f"the adapter rank must be between 1 and 256, not {self.rank}")
        need(1 <= self.sampler_inner <= 16384, f"the sampler's width must be 1 to 16384, not {self.sampler_inner}")
        need(self.batch >= 1, f"at least one sequence a step is needed, not {self.batch}")
        need(self.rows >= self.lookahead, f"rows per sequence must be at least L = {self.lookahead}, not {self.rows}")
        need(0.0 < self.survival <= 1.0, f"survival must be in (0, 1], not {self.survival}")
        need(0.0 <= self.surprise <= 1.0, f"surprise must be in [0, 1], not {self.surprise}")
        need(0.0 <= self.decode_share <= 1.0, f"the share of decoding must be in [0, 1], not {self.decode_share}")
        need(
            0.0 <= self.acceptance_share <= 1.0, f"the acceptance share must be in [0, 1], not {self.acceptance_share}"
        )

    @property
    def deep(self) -> bool:
        """Whether deep vectors are trained."""
        return self.kind in (TrainingKind.DEEP, TrainingKind.ALL)

    @property
    def adapter(self) -> bool:
        """Whether adapters are trained."""
        return self.kind in (TrainingKind.ADAPTER, TrainingKind.ALL)

    @property
    def uses_bigrams(self) -> bool:
        """Whether the model's own bigrams take part."""
        return self.bigrams and not self.with_sampler

    @property
    def sampler(self) -> bool:
        """Whether the sampler head is trained."""
        return self.with_sampler

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read what `to_json` wrote; unknown keys of a later version are ignored."""
        known = {k: raw[k] for k in cls.__dataclass_fields__ if k in raw}
        known.setdefault("bigrams", False)  # runs begun before bigrams existed continue without
        if "targets" in known:
            known["targets"] = tuple(known["targets"])
        if "kind" in known:
            known["kind"] = TrainingKind(known["kind"])
        return cls(**known)
