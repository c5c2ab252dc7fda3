"""The frozen model's own bigrams: what it expects after one token without context. They fit drafts to the token before.

A look-ahead row guesses past a token that it cannot see. When the guess is used, that token y is known. The product of
experts log q(x) + WEIGHT (log p(x | y) - COMMON log p(x)) joins both: p(x | y) is the model's own prediction after y
alone, p(x) the geometric mean of what it predicts after any token. Each term is a hidden state's inner product with the
lm_head, up to a constant. So each token needs one vector, added to the look-ahead row's hidden state:
h' = h + WEIGHT (h_y - COMMON mean h). Nothing is trained and no pass grows. Only drafts are scored with it, so the text
stays exact. (Products of experts: Hinton 2002; this use of them is our own.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pass_core.files import keep

WEIGHT = 0.7
COMMON = 0.7
COMMON_TOKENS = 2048  # the mean is over the lowest ids, which usual tokenizers give to the most frequent tokens


@dataclass(frozen=True)
class Bigrams:
    """One vector for each of the lowest token ids.

    Attributes:
        shifts: [tokens, hidden] bfloat16, what is added to a look-ahead state that follows this token. Tokens beyond
            have none: drafts after them are scored without.
    """

    shifts: torch.Tensor

    @classmethod
    def of_states(cls, states: torch.Tensor) -> Bigrams:
        """From the model's states h_y [tokens, hidden] after each token alone, in place."""
        common = states[:COMMON_TOKENS].float().mean(0)
        for block in states.split(4096):
            block.copy_(WEIGHT * (block.float() - COMMON * common))
        return cls(states)

    @property
    def known(self) -> int:
        """How many tokens have a vector."""
        return int(self.shifts.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all vectors (of a mapped file, only those in use are in memory)."""
        return self.shifts.numel() * self.shifts.element_size()

    def after(self, tokens: torch.Tensor) -> torch.Tensor:
        """Vectors [n, hidden] of token ids [n], zero for those that have none, on the device of the vectors."""
        at = tokens.to(self.shifts.device)
        found = self.shifts.index_select(0, at.clamp_max(self.known - 1))
        return torch.where((at < self.known)[:, None], found, torch.zeros_like(found))

    def to(self, device: torch.device) -> Bigrams:
        """The same vectors on a device."""
        return Bigrams(self.shifts.to(device))

    def save(self, path: Path) -> None:
        """Keep the vectors; a full or read-only disk only means reading them from the model again."""
        keep(path, save({"shifts": self.shifts}))

    @classmethod
    def load(cls, path: Path, *, hidden_size: int, vocabulary_size: int) -> Bigrams | None:
        """Kept vectors, mapped from their file; None when there are none or the file is damaged."""
        try:
            with safe_open(path, framework="pt") as f:
                shifts: torch.Tensor = f.get_tensor("shifts")
        except (OSError, SafetensorError, ValueError):
            return None
        fits = shifts.dim() == 2 and shifts.shape[1] == hidden_size and 0 < shifts.shape[0] <= vocabulary_size
        return cls(shifts) if fits and shifts.dtype is torch.bfloat16 else None
