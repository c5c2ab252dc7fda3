"""The measured cost of a forward pass by its rows, for one model on one device."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pass_core.files import keep
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Runtime
from pass_core.runtime.rows import Rows, RowsBuilder, chain_rows

ROWS = (1, 2, 4, 8, 12, 14, 16, 24, 32, 48)
SETTLED = 3  # rounds without a faster pass end the measurement
_FOLLOW, _FOLLOW_STALE = 0.1, 0.5  # weight of one observed pass, and of the first one after a pause
_STALE = 10.0  # seconds
_USUAL = 48  # rows that a table has at least
_MOVED = 0.01  # smaller relative changes leave the table as it is
_DISTURBED = 1.5  # no pass counts as slower than this, relative to the expected time


@dataclass(frozen=True)
class CostModel:
    """Seconds of a forward pass by its rows: linear between the measured points, then along their last slope.

    Attributes:
        seconds: as measured.
    """

    seconds: Mapping[int, float]
    _now: dict[int, float] = field(default_factory=dict[int, float], repr=False, compare=False)
    _seen: dict[int, float] = field(default_factory=dict[int, float], repr=False, compare=False)
    _asked: dict[int, float] = field(default_factory=dict[int, float], repr=False, compare=False)
    _shown: dict[int, float] = field(default_factory=dict[int, float], repr=False, compare=False)
    _table: list[np.ndarray] = field(default_factory=list[np.ndarray], repr=False, compare=False)

    def observe(self, rows: int, seconds: float) -> None:
        """Follow what passes cost now: on a shared machine memory may be half as fast an hour later, which makes passes
        of few rows much dearer and those of many rows hardly."""
        if not self._now:
            self._now.update(self.seconds)
        nearest = min(self._now, key=lambda r: abs(r - rows))
        known, now = self._now[nearest], time.monotonic()
        weight = _FOLLOW if now - self._seen.get(nearest, -_STALE) < _STALE else _FOLLOW_STALE
        # Relative to the kept figures, not to the table: the table's caps would make them grow without end.
        sizes = sorted(self._now)
        expected = float(np.interp(rows, sizes, [self._now[r] for r in sizes]))
        self._now[nearest] = known + weight * (known * min(seconds / expected, _DISTURBED) - known)
        self._seen[nearest] = now
        if abs(self._now[nearest] / self._shown.get(nearest, np.inf) - 1.0) > _MOVED:
            self._table.clear()

    def stale(self, sizes: Sequence[int]) -> int | None:
        """The first of these sizes that was neither observed nor returned here for some seconds, if any."""
        now = time.monotonic()
        for rows in sizes:
            nearest = min(self.seconds, key=lambda r: abs(r - rows))
            if now - max(self._seen.get(nearest, -_STALE), self._asked.get(rows, -_STALE)) >= _STALE:
                self._asked[rows] = now
                return rows
        return None

    def table(self, most: int) -> np.ndarray:
        """[most + 1] seconds of passes with 0..most rows (entry 0 is that of one row); never falling with rows."""
        found = self._table[0] if self._table else None
        if found is None or found.size <= most:
            at = self._now or self.seconds
            rows = sorted(at)
            known = self._consistent(at, rows)
            wanted = np.arange(max(most, _USUAL) + 1)
            found = np.interp(wanted, rows, known)
            if len(rows) > 1:
                slope = max(0.0, (known[-1] - known[-2]) / (rows[-1] - rows[-2]))
                found = np.where(wanted > rows[-1], known[-1] + slope * (wanted - rows[-1]), found)
            self._table[:] = [found]
            self._shown.update(at)
        return found[: most + 1]

    def _consistent(self, at: Mapping[int, float], rows: Sequence[int]) -> np.ndarray:
        """Seconds of rising sizes, never falling.

        Disturbances only add to a measurement, so a smaller pass never costs more than a larger one did. But real
        passes carry look-ahead rows, which the first measurement lacks: only observed sizes cap an observed one.
        """
        out: list[float] = []
        least = least_observed = np.inf
        for size in reversed(rows):
            observed = size in self._seen
            out.append(min(at[size], least_observed if observed else least))
            least = min(least, out[-1])
            if observed:
                least_observed = min(least_observed, out[-1])
        return np.maximum.accumulate(out[::-1])

    def __call__(self, rows: int) -> float:
        return float(self.table(max(rows, 1))[rows])


def measure(
    runtime: Runtime,
    *,
    rows: Sequence[int] | None = None,
    context: int = 256,
    repeats: int = 30,
    vocabulary: int = 256,
) -> CostModel:
    """Time forward passes of each size over a cache of `context` tokens, in turns, and keep the fastest of each.

    The fastest, because the table is kept: another program that took the processor must not shape trees for good.

    `repeats` bounds the rounds; fewer are made once the figures settle. In real steps the logits of many rows are
    needed too, so the head runs on half of the rows.

    Args:
        rows: sizes to measure; by default those that the runtime pads calls to (the table is then a staircase), else
            `ROWS`.
    """
    buckets = runtime.row_buckets if rows is None else ()
    rows = rows or buckets or ROWS
    cache = runtime.new_cache(context + max(rows) + 1)
    runtime.forward(cache, chain_rows(np.arange(context) % vocabulary))
    cache.commit(range(context))
    shapes = {n: _star(n, vocabulary) for n in rows}
    best = dict.fromkeys(rows, float("inf"))
    settled = 0
    for _ in range(repeats):
        improved = False
        for n, shape in shapes.items():
            runtime.synchronize()
            started = time.perf_counter()
            hidden = runtime.forward(cache, shape)
            runtime.logits(hidden[: (n + 1) // 2])
            runtime.synchronize()
            seconds = time.perf_counter() - started
            improved |= seconds < 0.97 * best[n]
            best[n] = min(best[n], seconds)
        settled = 0 if improved else settled + 1
        if settled == SETTLED:
            break
    return CostModel(_staircase(best) if buckets else best)


def _staircase(seconds: Mapping[int, float]) -> dict[int, float]:
    """What calls cost that are padded to the next measured size."""
    out: dict[int, float] = {}
    below = 0
    for size in sorted(seconds):
        out[below + 1] = out[size] = seconds[size]
        below = size
    return out


def _star(count: int, vocabulary: int) -> Rows:
    """A root with `count` - 1 children: a tree-shaped call."""
    rows = RowsBuilder()
    root = rows.add_token(1 % vocabulary)
    for i in range(count - 1):
        rows.add_token(i % vocabulary, root)
    return rows.build()


def kept_or_measured(model: LanguageModel, runtime: Runtime, cache: Path) -> CostModel:
    """The cost table of a model on this machine: read from `cache` if it was kept there, else measured now and kept.

    A measurement takes about a second.
    """
    cost = _read(_path(model, runtime, cache))
    if cost is None:
        cost = measure(runtime, vocabulary=min(256, model.vocabulary_size), context=_context(model))
        # Under the runtime's description of now: captured calls may have turned out to be impossible.
        keep(_path(model, runtime, cache), _as_bytes(cost))
    return cost


def _path(model: LanguageModel, runtime: Runtime, cache: Path) -> Path:
    return cache / "cost" / f"{_key(model, runtime)}.json"


def _context(model: LanguageModel) -> int:
    return max(1, min(256, model.capabilities.context_length // 2))


def _key(model: LanguageModel, runtime: Runtime) -> str:
    words = f"4-{model.fingerprint}-{model.device.type}-{runtime.description}"
    return "".join(c if c.isalnum() or c == "-" else "_" for c in words)


def _as_bytes(cost: CostModel) -> bytes:
    return json.dumps({str(rows): seconds for rows, seconds in cost.seconds.items()}).encode()


def _read(path: Path) -> CostModel | None:
    """A kept table; None when there is none or it is damaged (it is then measured again)."""
    try:
        raw: dict[str, float] = json.loads(path.read_text())
        seconds = {int(rows): float(s) for rows, s in raw.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return CostModel(seconds) if seconds and min(seconds.values()) > 0 else None
