"""The largest logits of each row, in torch, on any device, with fixed shapes: ties go to the lower token id."""

from __future__ import annotations

import torch
from torch.nn import functional as F

_BLOCK = 64  # few enough that the candidates of 128 blocks sort fast, many enough that the blocks do
_IDS = 2**32 - 1


def top_k(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest of float32 rows [n, vocabulary]: ids and logits [n, count], largest first, ties by lower id.

    The largest numbers lie in the blocks with the largest maxima, as many blocks as numbers are asked for. Numbers are
    compared together with their ids, as one integer: torch.topk alone leaves open which of two equal ones it keeps.
    """
    rows, vocabulary = logits.shape
    blocks = -(-vocabulary // _BLOCK)
    if blocks <= count:
        candidates, ids = logits, torch.arange(vocabulary, device=logits.device).expand(rows, -1)
    else:
        missing = blocks * _BLOCK - vocabulary
        padded = F.pad(logits, (0, missing), value=float("-inf")) if missing else logits
        most = padded.unflatten(1, (blocks, _BLOCK)).amax(-1)
        number = torch.arange(blocks, device=logits.device).expand(rows, -1)
        chosen = _ids(_keys(most, number).topk(count, dim=1).values)
        inside = torch.arange(_BLOCK, device=logits.device)
        ids = (chosen[:, :, None] * _BLOCK + inside).view(rows, count * _BLOCK)
        candidates = padded.gather(1, ids)
    found = _ids(_keys(candidates, ids).topk(count, dim=1).values)
    return found, logits.gather(1, found)


def _keys(numbers: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Integers that rank as the numbers do, equal ones by lower id: 32 bits of each."""
    bits = (numbers + 0.0).view(torch.int32)  # -0 equals 0
    ranked = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats fall with their bits
    return (ranked.long() << 32) + (_IDS - ids)


def _ids(keys: torch.Tensor) -> torch.Tensor:
    return _IDS - (keys & _IDS)
