"""The figures of a state head, as events and reports carry them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pass_core.training.acceptance import Acceptance


@dataclass(frozen=True, slots=True)
class StateAcceptance:
    """How a state head's drafts fare, without any look-ahead row.

    Attributes:
        chain: of chains of D drafts, as for look-ahead rows.
        siblings: for 1 to 3 siblings how often one of them is the target's token, by position (closed form).
        expected: drafts a chain as products of the closed form, without the noise's luck; it chooses the best step.
        recall: for each n of `acceptance.BEST` how often the target's token is among the n best drafts under the shared
            noise, by position.
    """

    chain: Acceptance
    siblings: tuple[tuple[float, ...], ...]
    expected: float
    recall: tuple[tuple[float, ...], ...] = ()

    @property
    def match(self) -> tuple[float, ...]:
        """How often the draft at each position is the target's token, accepted before or not (closed form)."""
        return self.siblings[0]

    @classmethod
    def from_raw(cls, raw: dict[str, Any]) -> StateAcceptance:
        """From what `dataclasses.asdict` made of it, through JSON or not."""
        siblings, recall = (tuple(tuple(row) for row in raw.get(name, ())) for name in ("siblings", "recall"))
        return cls(Acceptance.from_raw(raw["chain"]), siblings, float(raw["expected"]), recall)
