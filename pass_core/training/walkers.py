"""Where simulated decoding is in each training text: chains start there as a decoder would start them.

A decoder starts its next chain right after a token that it could not guess, so it meets harder places than evenly
spread ones. Every text has some walkers. When a step trains on the text, its first chains start where the walkers
are, and each walker advances by the present drafts that are accepted there under the shared noise, plus the token that
decoding would emit. This simulates decoding with the parts as they are now, and costs no forward pass. Where a chain
was cut before a draft of it failed, its next draft counts as failed. A walker at the end of its text starts again near
the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pass_core.training.chains import Chains


class Walkers:
    """Context lengths of all walkers: `places` [sequences, walkers], int32.

    Args:
        lengths: tokens of each training sequence.
        count: walkers of each.
        seed: of their first places, which are random.
    """

    def __init__(self, lengths: Sequence[int], count: int, seed: int) -> None:
        self.lengths = list(lengths)
        random = torch.rand(len(lengths), count, generator=torch.Generator().manual_seed(seed * 31 + 7))
        usable = torch.tensor([max(1, n - 2) for n in lengths])[:, None]
        self.places = (1 + random * usable).to(torch.int32)

    @staticmethod
    def count_for(share: float, rows: int, lookahead: int, survival: float) -> int:
        """How many walkers start `share` of the chains of `rows` rows."""
        mean_depth = sum(survival**j for j in range(lookahead))
        return round(share * rows / mean_depth)

    def of(self, number: int) -> list[int]:
        """The context lengths of one sequence's walkers."""
        return self.places[number].tolist()

    def advanced(self, number: int, chains: Chains, hits: torch.Tensor, generator: torch.Generator) -> list[int]:
        """Where the sequence's walkers go from here.

        Args:
            chains: of this sequence alone, [1, rows], on the CPU; the first ones started at its walkers.
            hits: [rows] whether the row's draft is the target's token.
        """
        length, count = self.lengths[number], self.places.shape[1]
        kept = (hits & chains.valid[0]).tolist()
        depths, numbers = chains.depth[0].tolist(), chains.chain[0].tolist()
        accepted = [0] * count
        for n, depth, hit in zip(numbers, depths, kept, strict=True):
            if n < count and hit and accepted[n] == depth:
                accepted[n] += 1
        restart = torch.randint(1, max(2, length // 8), (count,), generator=generator).tolist()
        moved = [c + a + 1 for c, a in zip(self.of(number), accepted, strict=True)]
        return [c if c < length - 1 else r for c, r in zip(moved, restart, strict=True)]

    def move(self, numbers: Sequence[int], places: torch.Tensor) -> None:
        """Put the walkers of these sequences at `places` [sequences, walkers]."""
        for number, row in zip(numbers, places, strict=True):
            self.places[number] = row.to(torch.int32)
