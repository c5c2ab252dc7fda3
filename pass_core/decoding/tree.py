"""Draft trees: proposed tokens below the last committed one, and the walk that verifies them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pass_core.decoding.events import DraftSource, DraftStatus, Provenance
from pass_core.kernels.interface import ROOT
from pass_core.sampling.distribution import Distribution
from pass_core.sampling.rules import Decision, VerificationRule


@dataclass(slots=True)
class Draft:
    """One proposed token.

    Attributes:
        token: its id.
        parent: index of the draft above it, ROOT directly below the last committed token.
        depth: 1 below the root.
        distribution: the draft distribution it was taken from; for prompt lookup the certain one.
        source: look-ahead or prompt lookup.
        reach: estimated probability that verification reaches and accepts it.
    """

    token: int
    parent: int
    depth: int
    distribution: Distribution
    source: DraftSource
    reach: float = 1.0
    status: DraftStatus = DraftStatus.UNREACHED
    uniform: float | None = None
    target: Distribution | None = None


@dataclass(slots=True)
class DraftTree:
    """Drafts, parents before children. A chain is a tree without branches; an empty tree drafts nothing."""

    drafts: list[Draft] = field(default_factory=list[Draft])

    def __len__(self) -> int:
        return len(self.drafts)

    def add(self, draft: Draft) -> int:
        self.drafts.append(draft)
        return len(self.drafts) - 1

    def children(self, parent: int) -> list[int]:
        return [i for i, d in enumerate(self.drafts) if d.parent == parent]

    @property
    def depth(self) -> int:
        return max((d.depth for d in self.drafts), default=0)


@dataclass(frozen=True, slots=True)
class Emitted:
    """One token that a step emits, with the distributions behind it."""

    token: int
    provenance: Provenance
    target: Distribution
    draft_position: int | None = None
    draft: Distribution | None = None
    source: DraftSource | None = None
    uniform: float | None = None


@dataclass(frozen=True, slots=True)
class Walk:
    """The outcome of verification: accepted drafts in order, and all emitted tokens (one more than accepted)."""

    path: list[int]
    emitted: list[Emitted]


class Targets(Protocol):
    """The target distributions right after the root, then after each draft."""

    def __getitem__(self, index: int, /) -> Distribution: ...

    def sample_path(self, seed: int, position: int, tokens: Sequence[int], parents: Sequence[int]) -> list[int]:
        """The target's samples from the root on; see `pass_core.kernels.interface.Kernels.sample_path`."""
        ...


def verify_tree(tree: DraftTree, targets: Targets, rule: VerificationRule, seed: int, position: int) -> Walk:
    """Walk from the root, accepting drafts until the rule emits a token that no draft proposed.

    Args:
        targets: len(tree) + 1 of them.
        position: absolute position of the first token to emit.

    Sets every draft's status, uniform and (where its parent was reached) target.
    """
    path: list[int] = []
    emitted: list[Emitted] = []
    at = ROOT
    samples: list[int] | None = None
    if rule.samples_target:
        samples = targets.sample_path(seed, position, [d.token for d in tree.drafts], [d.parent for d in tree.drafts])
    while True:
        children = tree.children(at)
        proposed = [tree.drafts[c] for c in children]
        target = targets[at + 1]
        if samples is None:
            decision = rule.decide(target, proposed, seed, position + len(path))
        else:
            decision = Decision.coupled(samples[len(path)], proposed)
        for c in children:
            tree.drafts[c].target = target
            tree.drafts[c].status = DraftStatus.REJECTED
            tree.drafts[c].uniform = decision.uniform
        if decision.accepted is None:
            first = tree.drafts[children[0]] if children else None
            if first is not None:
                provenance = Provenance.CORRECTED
            else:
                provenance = Provenance.BONUS if path else Provenance.MODEL
            emitted.append(
                Emitted(
                    decision.token,
                    provenance,
                    target,
                    draft_position=first.depth if first else None,
                    draft=first.distribution if first else None,
                    uniform=decision.uniform,
                )
            )
            return Walk(path, emitted)
        at = children[decision.accepted]
        draft = tree.drafts[at]
        draft.status = DraftStatus.ACCEPTED
        path.append(at)
        emitted.append(
            Emitted(
                draft.token,
                Provenance.ACCEPTED,
                target,
                draft_position=draft.depth,
                draft=draft.distribution,
                source=draft.source,
                uniform=decision.uniform,
            )
        )
