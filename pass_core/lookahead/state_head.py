"""The state head: drafts from the last token's own state, without look-ahead rows.

h is the state after the final norm that predicted the last token t, e the input embedding of t. A guess for each depth
d (Medusa, arXiv 2401.10774, given t: Hydra, arXiv 2402.05109):
g_d = h + G_out silu(G_in [rms(h); rms(e)] + guess_d). The lm_head reads candidates for depth d from g_d, of the file's
draft vocabulary alone: the most frequent tokens of the text that the head was trained on (FR-Spec, arXiv 2502.14856).
Reading the whole lm_head once more costs a fifth of a plain step. Drafts of depth 1 are read from g_1, which knows t.
Deeper ones are fitted to the token right before them by a second layer, as the sampler head does
(`pass_core.lookahead.sampler`). Both layers have the sampler head's form.
"""

from __future__ import annotations

import torch

from pass_core.lookahead.sampler import corrected, from_state

DRAFT_VOCABULARY = 4_096  # tokens of it; a few more of a large vocabulary would be drafted, and each costs time
STATE_CANDIDATES = 64  # likeliest tokens of a guess that drafts are chosen from


def draft_vocabulary(counts: torch.Tensor) -> torch.Tensor:
    """The draft vocabulary: ids [at most DRAFT_VOCABULARY], rising, of the most frequent tokens.

    Args:
        counts: [vocabulary] how often each token stands in the text. Of equally frequent ones the lower id is taken.
    """
    order = counts.argsort(descending=True, stable=True)
    return order[:DRAFT_VOCABULARY].sort().values


def guess(
    state: torch.Tensor,
    token: torch.Tensor,
    depth: int,
    w_in: torch.Tensor,
    step: torch.Tensor,
    w_out: torch.Tensor,
    operands: torch.dtype | None = None,
) -> torch.Tensor:
    """The states [depth, hidden] that drafts 1..depth are read from.

    Args:
        state: [hidden], after the final norm, of the row that predicted the token.
        token: [hidden], the token's input embedding.
        step: [steps, inner], at least `depth` steps.
        operands: what factors of products are rounded to, if not to the weights' dtype.
    """
    prepared = from_state(state[None], w_in, step[:depth], operands)
    rows = state.expand(depth, -1)
    return corrected(rows, prepared, token.expand(depth, -1), w_in, w_out, operands)
