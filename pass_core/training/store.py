"""What the frozen model computed for each training sequence, kept in memory so that it is paid for once.

A sequence's entry holds its keys, values and the teacher's likeliest tokens. Entries beyond the byte budget are
computed again whenever they are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pass_core.models.language_model import LanguageModel
from pass_core.training.forward import Prefix, prefix_forward
from pass_core.training.objective import TEACHER_TOP, Targets


@dataclass(frozen=True)
class Entry:
    """keys, values [layers, kv heads, tokens, head size]; targets: one row per token, predicting the next."""

    ids: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    targets: Targets

    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.keys, self.values, *_fields(self.targets)))


def _fields(targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
    return targets.ids, targets.log_probs


@dataclass(frozen=True)
class Batch:
    """Several sequences: their prefix for the second forward, and targets [batch, tokens, TEACHER_TOP]."""

    prefix: Prefix
    lengths: list[int]
    targets: Targets


class PrefixStore:
    """Entries by sequence number, computed on demand and kept up to `budget` bytes."""

    def __init__(self, model: LanguageModel, sequences: Sequence[torch.Tensor], budget: int) -> None:
        self.model, self.sequences, self.budget = model, sequences, budget
        self._kept: dict[int, Entry] = {}
        self._bytes = 0

    @property
    def kept_bytes(self) -> int:
        """Bytes that the kept entries take now."""
        return self._bytes

    def forget(self) -> None:
        """Drop all kept entries."""
        self._kept.clear()
        self._bytes = 0

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The entries of these sequences side by side, right-padded to the longest."""
        missing = [n for n in dict.fromkeys(numbers) if n not in self._kept]
        found = {n: self._kept[n] for n in numbers if n in self._kept}
        if missing:
            found.update(zip(missing, self._compute(missing), strict=True))
        for n in missing:
            size = found[n].bytes()
            if self._bytes + size <= self.budget:
                self._kept[n] = found[n]
                self._bytes += size
        return _collate([found[n] for n in numbers])

    @torch.no_grad()
    def _compute(self, numbers: Sequence[int]) -> list[Entry]:
        sequences = [self.sequences[n] for n in numbers]
        device = self.model.device
        ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True).to(device)
        prefix = prefix_forward(self.model, ids)
        entries: list[Entry] = []
        for b, sequence in enumerate(sequences):
            n = len(sequence)
            keys = torch.stack([k[b, :, :n] for k in prefix.keys])
            values = torch.stack([v[b, :, :n] for v in prefix.values])
            targets = teacher(self.model, prefix.hidden[b, :n])
            entries.append(Entry(sequence.to(device), keys, values, targets))
        return entries


@torch.no_grad()
def teacher(model: LanguageModel, hidden: torch.Tensor) -> Targets:
    """The model's likeliest next tokens after each of `hidden` [rows, hidden]."""
    ids: list[torch.Tensor] = []
    log_probs: list[torch.Tensor] = []
    for chunk in hidden.split(64):
        logits = model.logits(chunk)
        best = logits.topk(min(TEACHER_TOP, logits.shape[-1]), -1)
        ids.append(best.indices)
        log_probs.append(best.values - logits.logsumexp(-1, keepdim=True))
    return Targets(torch.cat(ids), torch.cat(log_probs))


def _collate(entries: Sequence[Entry]) -> Batch:
    lengths = [len(e.ids) for e in entries]
    longest = max(lengths)

    def pad(x: torch.Tensor, dim: int) -> torch.Tensor:
        short = longest - x.shape[dim]
        if not short:
            return x
        shape = list(x.shape)
        shape[dim] = short
        return torch.cat((x, x.new_zeros(shape)), dim)

    layers = entries[0].keys.shape[0]
    ids = torch.stack([pad(e.ids, 0) for e in entries])
    keys = [torch.stack([pad(e.keys[i], 1) for e in entries]) for i in range(layers)]
    values = [torch.stack([pad(e.values[i], 1) for e in entries]) for i in range(layers)]
    targets = Targets(
        torch.stack([pad(e.targets.ids, 0) for e in entries]),
        torch.stack([pad(e.targets.log_probs, 0) for e in entries]),
    )
    return Batch(Prefix(ids, keys, values, ids.new_zeros(0)), lengths, targets)
