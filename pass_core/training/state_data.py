"""What a state head learns from: states and likeliest next tokens of real text, one forward pass for each text.

A place c of a text is where decoding would draft: tokens 0..c are known, the state h is that of token c-1 (which
predicted token c), draft d is of token c+d, and the model's own prediction of it is the row of token c+d-1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken
from pass_core.training.acceptance import HeldOut
from pass_core.training.config import TrainingError
from pass_core.training.forward import prefix_forward
from pass_core.training.objective import LISTED, TEACHER_TOP, Targets
from pass_core.training.state_config import StateHeadConfig
from pass_core.training.step import epoch_order, step_generator
from pass_core.training.store import teacher

BLOCK = 8  # texts that are computed together, and kept or not
GROUP = 4  # blocks that a step's places come from


@dataclass(frozen=True)
class Block:
    """Some texts: ids [texts, tokens] (right-padded), hidden [texts, tokens, hidden] after the final norm, and targets
    [texts, tokens, listed], ids in int32."""

    ids: torch.Tensor
    lengths: list[int]
    hidden: torch.Tensor
    targets: Targets

    def bytes(self) -> int:
        tensors = (self.ids, self.hidden, self.targets.ids, self.targets.log_probs)
        return sum(t.numel() * t.element_size() for t in tensors)


@dataclass(frozen=True)
class Rows:
    """Chains that learn: hidden [places, hidden], before [places, D] the tokens before the drafted ones, targets
    [places, D, listed]."""

    hidden: torch.Tensor
    before: torch.Tensor
    targets: Targets


class StateStore:
    """Blocks by number, computed on demand and kept up to `budget` bytes. What is kept changes no value.

    Args:
        top_k: the targets must list at least as many tokens.
        cancel: looked at before a block is computed.
    """

    def __init__(
        self,
        model: LanguageModel,
        texts: Sequence[torch.Tensor],
        budget: int,
        top_k: int,
        cancel: CancelToken | None = None,
    ) -> None:
        self.model, self.budget, self._cancel = model, budget, cancel
        self.listed = min(TEACHER_TOP, max(LISTED, top_k))
        self._texts = [list(texts[i : i + BLOCK]) for i in range(0, len(texts), BLOCK)]
        self._kept: dict[int, Block] = {}
        self.kept_bytes = 0

    def __len__(self) -> int:
        return len(self._texts)

    def lengths(self, number: int) -> list[int]:
        """Tokens of each text of a block."""
        return [len(t) for t in self._texts[number]]

    @torch.no_grad()
    def block(self, number: int) -> Block:
        """A block, from memory where it is there.

        Raises:
            Cancelled.
        """
        if number in self._kept:
            return self._kept[number]
        if self._cancel is not None:
            self._cancel.raise_if_cancelled()
        texts = self._texts[number]
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True).to(self.model.device)
        hidden = prefix_forward(self.model, ids).hidden
        found = teacher(self.model, hidden.flatten(0, 1)).first(self.listed)
        shape = (*ids.shape, -1)
        targets = Targets(found.ids.to(torch.int32).view(shape), found.log_probs.float().view(shape))
        made = Block(ids, self.lengths(number), hidden, targets)
        if self.kept_bytes + made.bytes() <= self.budget:
            self._kept[number] = made
            self.kept_bytes += made.bytes()
        return made


def rows_of(block: Block, text: torch.Tensor, place: torch.Tensor, depth: int) -> Rows:
    """Chains of `depth` drafts at the places `place` [n] of the block's texts `text` [n]."""
    at = place[:, None] + torch.arange(depth, device=place.device)
    which = text[:, None].expand_as(at)
    targets = Targets(block.targets.ids[which, at].long(), block.targets.log_probs[which, at])
    return Rows(block.hidden[text, place - 1], block.ids[which, at], targets)


def steps_of(store: StateStore, config: StateHeadConfig, start: int = 0) -> Iterator[Rows]:
    """The chains of each step from step `start` on, without end: every epoch meets each place about once, in an order
    from the seed. What earlier steps took is counted, not computed."""
    epoch = number = 0
    while True:
        order = epoch_order(len(store), config.seed, epoch)
        for first in range(0, len(order), GROUP):
            group = order[first : first + GROUP]
            found = [(b, t, c) for b in group for t, c in _places(store.lengths(b), config.depth)]
            size = min(config.places, len(found))
            count = len(found) // size
            if number + count <= start:
                number += count
                continue
            shuffled = torch.randperm(len(found), generator=step_generator(config.seed, number, 10_000)).tolist()
            done = max(0, start - number)
            number += done
            blocks = {b: store.block(b) for b in group}
            for at in range(done * size, count * size, size):
                yield _side_by_side(blocks, [found[i] for i in shuffled[at : at + size]], config.depth)
                number += 1
        epoch += 1


def _places(lengths: Sequence[int], depth: int) -> list[tuple[int, int]]:
    """(text, place) of all places with room for a chain."""
    return [(t, c) for t, length in enumerate(lengths) for c in range(1, length - depth + 1)]


def _side_by_side(blocks: dict[int, Block], places: Sequence[tuple[int, int, int]], depth: int) -> Rows:
    """The chains at (block, text, place), block by block, then back in the order of `places`."""
    parts: list[Rows] = []
    origin: list[int] = []
    for number, block in blocks.items():
        mine = [i for i, place in enumerate(places) if place[0] == number]
        where = torch.tensor([places[i][1:] for i in mine], dtype=torch.long, device=block.ids.device).view(-1, 2)
        parts.append(rows_of(block, where[:, 0], where[:, 1], depth))
        origin.extend(mine)
    back = torch.tensor(origin).argsort().to(parts[0].before.device)
    return Rows(
        torch.cat([p.hidden for p in parts])[back],
        torch.cat([p.before for p in parts])[back],
        Targets(torch.cat([p.targets.ids for p in parts])[back], torch.cat([p.targets.log_probs for p in parts])[back]),
    )


def divided(held: Sequence[HeldOut]) -> tuple[list[HeldOut], list[HeldOut]]:
    """(texts to choose by, texts to report): every second one; a single text is both."""
    return list(held[::2]), list(held[1::2] or held)


def refuse_short(train: Sequence[torch.Tensor], held: Sequence[HeldOut], depth: int) -> None:
    """
    Raises:
        TrainingError: there is no text, or too little for a chain.
    """
    if not train or not held:
        raise TrainingError(
            f"The data gave {len(train)} training and {len(held)} held-out sequences; both are needed. "
            "Use more or longer documents (at least ten), or --data self."
        )
    if any(len(t) <= depth for t in train) or any(len(h.ids) - h.start <= depth for h in held):
        raise TrainingError(f"Every text needs more than {depth} tokens for chains of {depth} drafts. Use longer ones.")
