"""Plain decoding: one forward pass, one token. Every speed-up is measured against it."""

from __future__ import annotations

from pass_core.decoding.events import Provenance
from pass_core.decoding.state import DecodeState, StepOutcome, Stepper
from pass_core.decoding.targets import RowDistributions
from pass_core.decoding.tree import DraftTree, Emitted
from pass_core.decoding.whole_step import WholeSteps
from pass_core.runtime.rows import RowsBuilder
from pass_core.sampling.rules import VerificationRule
from pass_core.settings import DecodingSettings


class AutoregressiveStepper(Stepper):
    """One forward pass of one row for each step."""

    def __init__(self) -> None:
        self._whole = WholeSteps()

    def step(self, state: DecodeState, settings: DecodingSettings, rule: VerificationRule) -> StepOutcome:
        rows = RowsBuilder()
        rows.add_token(state.tokens[-1])
        walk = self._whole.plain(state, settings.sampling, rows.build())
        if walk is not None:
            return StepOutcome(walk.emitted, DraftTree())
        hidden = state.call(rows.build())
        targets = RowDistributions(state.runtime.logits(hidden), settings.sampling, state.kernels)
        token = targets.sample_path(state.seed, state.position)[0]
        state.cache.commit([0])
        return StepOutcome([Emitted(token, Provenance.MODEL, targets[0])], DraftTree())
