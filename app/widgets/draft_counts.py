"""What became of the drafts of a run: how many each step kept, what rows were spent on, and what was foreseen."""

from __future__ import annotations

from dataclasses import dataclass, field

from pass_core.decoding.events import DraftStatus, StepEvent

BINS = 10


@dataclass(slots=True)
class DraftCounts:
    """Grows with `add`.

    Attributes:
        steps_by_accepted: at place n, the steps that kept n drafts.
        kept_rows: rows of drafts that were kept.
        lost_rows: rows of drafts that were not.
        lookahead_rows: rows that guessed for the next step.
        own_rows: the other rows: one in every forward pass, for the token that the model itself wrote.
        foreseen: sum of the draft probabilities by tenth of it, over drafts that were examined.
        examined, accepted: drafts of each tenth that were examined, and those that were accepted.
    """

    steps_by_accepted: list[int] = field(default_factory=list[int])
    kept_rows: int = 0
    lost_rows: int = 0
    lookahead_rows: int = 0
    own_rows: int = 0
    foreseen: list[float] = field(default_factory=lambda: [0.0] * BINS)
    examined: list[int] = field(default_factory=lambda: [0] * BINS)
    accepted: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, step: StepEvent) -> None:
        """Fold one step."""
        if not step.tokens:
            return
        kept = step.accepted
        self.steps_by_accepted += [0] * (kept + 1 - len(self.steps_by_accepted))
        self.steps_by_accepted[kept] += 1
        rows = sum(step.rows)
        self.kept_rows += min(kept, rows)
        lost = min(step.proposed - kept, rows - kept)  # a baseline may verify more drafts than its rows tell
        self.lost_rows += max(0, lost)
        self.lookahead_rows += step.lookahead_rows
        self.own_rows += max(0, rows - min(kept, rows) - max(0, lost) - step.lookahead_rows)
        for draft in step.drafts:
            if draft.p_draft is None or draft.status is DraftStatus.UNREACHED:
                continue
            place = min(BINS - 1, max(0, int(draft.p_draft * BINS)))
            self.foreseen[place] += draft.p_draft
            self.examined[place] += 1
            self.accepted[place] += draft.status is DraftStatus.ACCEPTED

    def calibration(self) -> list[tuple[float, float, int]]:
        """(mean draft probability, share accepted, drafts) of each tenth that has any."""
        return [(f / n, a / n, n) for f, n, a in zip(self.foreseen, self.examined, self.accepted) if n]
