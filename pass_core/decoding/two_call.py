"""PASS as the paper has it (arXiv 2311.13581): a drafting pass with look-ahead rows, then a validation pass."""

from __future__ import annotations

from collections.abc import Callable

from pass_core.decoding.events import Provenance
from pass_core.decoding.lookahead_proposer import LookaheadProposer
from pass_core.decoding.propose_tree import draft_chain
from pass_core.decoding.state import DecodeState, StepOutcome, Stepper
from pass_core.decoding.targets import RowDistributions
from pass_core.decoding.tree import DraftTree, Emitted, verify_tree
from pass_core.runtime.rows import RowsBuilder
from pass_core.sampling.rules import VerificationRule
from pass_core.settings import DecodingSettings


class TwoCallStepper(Stepper):
    """Drafting: rows x_n, LA_1..LA_k. Validation: rows x_{n+1} and the drafts. a accepted drafts give a + 2 tokens.

    Args:
        ends_text: whether a token ends the text (no validation pass follows it then).
        cancelled: asked between the two passes.
    """

    def __init__(self, ends_text: Callable[[int], bool], cancelled: Callable[[], bool]) -> None:
        self._ends_text = ends_text
        self._cancelled = cancelled

    def step(self, state: DecodeState, settings: DecodingSettings, rule: VerificationRule) -> StepOutcome:
        # The validation pass can emit depth + 1 tokens after the first one.
        count = state.lookahead_steps(min(settings.k, state.remaining - 2))
        rows = RowsBuilder()
        root = rows.add_token(state.tokens[-1])
        chain = rows.add_lookahead_chain(count, root)
        hidden = state.call(rows.build())
        state.cache.commit([root])
        targets = RowDistributions(state.runtime.logits(hidden[:1]), settings.sampling, state.kernels)
        first = targets.sample_path(state.seed, state.position)[0]
        emitted = [Emitted(first, Provenance.MODEL, targets[0])]
        if not chain or self._ends_text(first) or self._cancelled():
            return StepOutcome(emitted, DraftTree())

        drafts = LookaheadProposer.of_call(
            state.kernels, state.runtime, hidden, chain, range(count), state.head, text=state.recent
        )
        tree = draft_chain(drafts, (state.tokens[-1], first), state.position + 1, state.seed, settings, rule, count)
        rows = RowsBuilder()
        at = rows.add_token(first)
        for draft in tree.drafts:
            at = rows.add_token(draft.token, at)
        targets = RowDistributions(state.runtime.logits(state.call(rows.build())), settings.sampling, state.kernels)
        walk = verify_tree(tree, targets, rule, state.seed, state.position + 1)
        state.cache.commit(list(range(len(walk.path) + 1)))
        return StepOutcome(emitted + walk.emitted, tree)
