"""Sizes of captured passes: a pass is padded up to the smallest size that holds it."""

from __future__ import annotations

ROW_BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64)  # at most 64: a row's ancestors are the bits of one integer
SMALLEST_KV_BUCKET = 256


def row_bucket(rows: int) -> int | None:
    """The number of rows that a pass of `rows` rows is padded to; None where it is too large to be worth a capture."""
    return next((b for b in ROW_BUCKETS if b >= rows), None)


def kv_bucket(entries: int) -> int:
    """Slots of a buffer that holds `entries` keys and, in its last slot, what padding rows write: 256, 512, 1024, …"""
    size = SMALLEST_KV_BUCKET
    while size < entries + 1:
        size *= 2
    return size
