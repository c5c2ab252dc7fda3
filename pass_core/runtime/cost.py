"""The measured cost of a forward pass by its rows, for one model on one device."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pass_core.files import keep
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Runtime
from pass_core.runtime.rows import Rows, RowsBuilder, chain_rows

ROWS = (1, 2, 4, 8, 12, 14, 16, 24, 32, 48)
SETTLED = 3  # rounds without a faster pass end the measurement
_FOLLOW, _FOLLOW_STALE = 0.1, 0.5  # weight of one observed pass, and of the first one after a pause
_STALE = 10.0  # seconds
_STALE_CALLS = 100  # or so many plain calls, where they take longer
_MISSES = 6  # doublings at most of the time between two trials of a size that was not chosen
ONE_HEAD_PASS = 24  # rows up to which lm_head reads all rows of a PASS call at once
FORMAT = 6  # of kept tables
_USUAL = 48  # rows that a table has at least
_MOVED = 0.01  # smaller relative changes leave the table as it is
_DISTURBED = 1.5  # no pass counts as slower than this, relative to the expected time


@dataclass(frozen=True)
class CostModel:
    """Seconds of a forward pass by its rows: linear between the measured points, beyond them as their last slope.

    One row is a plain pass. More rows are passes of PASS, measured with look-ahead rows among them.

    Attributes:
        seconds: as measured.
        buckets: the numbers of rows that passes are padded to; () where each has the rows that it asks for.
        host: seconds of a step outside its forward pass, of plain (False) and of drafting steps (True), where known;
            followed while texts are written.
        tokens: of passes without look-ahead rows, where drafts may do without them; their host times are the same.
        clock: seconds from any beginning, for all who time forward passes with this table.
    """

    seconds: Mapping[int, float]
    buckets: tuple[int, ...] = ()
    host: dict[bool, float] = field(default_factory=dict[bool, float], compare=False)
    tokens: CostModel | None = None
    clock: Callable[[], float] = field(default=time.perf_counter, repr=False, compare=False)
    _misses: dict[int, int] = field(default_factory=dict[int, int], repr=False, compare=False)
    _now: dict[int, float] = field(default_factory=dict[int, float], repr=False, compare=False)
    _seen: dict[int, float] = field(default_factory=dict[int, float], repr=False, compare=False)
    _asked: dict[int, float] = field(default_factory=dict[int, float], repr=False, compare=False)
    _shown: dict[int, float] = field(default_factory=dict[int, float], repr=False, compare=False)
    _table: list[np.ndarray] = field(default_factory=list[np.ndarray], repr=False, compare=False)

    @property
    def drafting(self) -> float:
        """Seconds that a step which drafts takes on the host beyond what a plain one takes, as far as known."""
        known = self.host.get(True, 0.0)
        return max(0.0, known - self.host.get(False, known))

    @property
    def tokens_only(self) -> CostModel:
        """What passes without look-ahead rows cost, as far as they were measured apart."""
        return self if self.tokens is None else self.tokens

    def fresh(self) -> CostModel:
        """The same figures, without host times and whatever was observed."""
        host: dict[bool, float] = {}
        tokens = self.tokens and CostModel(self.tokens.seconds, self.tokens.buckets, host, clock=self.clock)
        return CostModel(self.seconds, self.buckets, host, tokens, self.clock)

    def cheapest(self, rows: int) -> float:
        """Seconds of a pass of so many rows of either kind."""
        return min(self(rows), self.tokens_only(rows))

    def least_lookahead(self) -> float:
        """Seconds that a pass takes at least for having look-ahead rows, as far as it is known."""
        return float((self.table(_USUAL)[2:] - self.tokens_only.table(_USUAL)[1:-1]).min())

    @property
    def plain_step(self) -> float:
        """Seconds of a plain step."""
        return self(1) + self.host.get(False, 0.0)

    def observe_host(self, drafts: bool, seconds: float) -> None:
        """Follow what steps take outside their calls."""
        known = self.host.get(drafts, seconds)
        self.host[drafts] = known + _FOLLOW * (seconds - known)

    def observe(self, rows: int, seconds: float) -> None:
        """Follow what calls cost now: a shared machine's memory is half as fast an hour later, which makes few rows
        dearer and many rows hardly."""
        if seconds <= 0:
            return
        if not self._now:
            self._now.update(self.seconds)
        now = self.clock()
        # Related to the kept figures, not to the table: what caps a table would make them grow without end.
        sizes = sorted(self._now)
        expected = float(np.interp(rows, sizes, [self._now[r] for r in sizes]))
        for size in self._moved_by(rows):
            known = self._now[size]
            weight = _FOLLOW if now - self._seen.get(size, -np.inf) < _STALE else _FOLLOW_STALE
            self._now[size] = known + weight * (known * min(seconds / expected, _DISTURBED) - known)
            self._seen[size] = now
            if abs(self._now[size] / self._shown.get(size, np.inf) - 1.0) > _MOVED:
                self._table.clear()

    def _moved_by(self, rows: int) -> list[int]:
        """The measured sizes that a call of so many rows tells of: its whole bucket, else the nearest, where a plain
        call and the others tell nothing of each other."""
        fitting = [size for size in self.buckets if size >= rows]
        if fitting:
            below = max((size for size in self.buckets if size < fitting[0]), default=0)
            return [size for size in self._now if below < size <= fitting[0]]
        sizes = [size for size in self._now if (size == 1) == (rows == 1)] or list(self._now)
        return [min(sizes, key=lambda size: abs(size - rows))]

    def stale(self, sizes: Sequence[int]) -> int | None:
        """The first of these sizes whose cost nobody has observed, or asked for here, for some time, if any; a size
        that is only seen because it was asked for, is asked for half as often each time."""
        now = self.clock()
        wait = max(_STALE, _STALE_CALLS * self(1))
        for rows in sizes:
            seen = max(self._seen.get(size, -np.inf) for size in self._moved_by_default(rows))
            asked = self._asked.get(rows, -np.inf)
            if seen > asked + wait:
                self._misses[rows] = 0
            doubled = 0 if rows == 1 else self._misses.get(rows, 0)
            if now - max(seen, asked) >= wait and now - asked >= wait * 2**doubled:
                if asked > -np.inf:
                    self._misses[rows] = min(self._misses.get(rows, 0) + 1, _MISSES)
                self._asked[rows] = now
                return rows
        return None

    def _moved_by_default(self, rows: int) -> list[int]:
        if not self._now:
            self._now.update(self.seconds)
        return self._moved_by(rows)

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
    lookahead: LookaheadEmbeddings | None = None,
    every_logit: bool = False,
) -> CostModel:
    """Time forward passes of each size over a cache of `context` tokens, in turns, and keep the fastest of each.

    The fastest, because the table is kept: another program that took the processor must not shape trees for good.

    `repeats` bounds the rounds; fewer are made once the figures settle. In real steps the logits of many rows are
    needed too, so the head runs on half of the rows.

    Args:
        rows: sizes to measure; by default those that the runtime pads calls to (the table is then a staircase), else
            `ROWS`.
        lookahead: embeddings whose rows, with all their parts, half of the rows of a PASS call are; without any, all
            rows are tokens.
        every_logit: the lm_head reads all rows, as where all of them are drafts.
    """
    every_logit = every_logit or lookahead is not None
    if lookahead is not None:
        runtime.use_lookahead(lookahead)
    buckets = runtime.row_buckets if rows is None else ()
    rows = rows or buckets or ROWS
    cache = runtime.new_cache(context + max(rows) + 1)
    runtime.forward(cache, chain_rows(np.arange(context) % vocabulary))
    cache.commit(range(context))
    shapes = {n: _star(n, vocabulary, lookahead.count if lookahead is not None else 0) for n in rows}
    best = dict.fromkeys(rows, float("inf"))
    settled = 0
    for _ in range(repeats):
        improved = False
        for n, shape in shapes.items():
            runtime.synchronize()
            started = time.perf_counter()
            hidden = runtime.forward(cache, shape)
            runtime.logits(hidden if every_logit and n <= ONE_HEAD_PASS else hidden[: (n + 1) // 2])
            runtime.synchronize()
            seconds = time.perf_counter() - started
            improved |= seconds < 0.97 * best[n]
            best[n] = min(best[n], seconds)
        settled = 0 if improved else settled + 1
        if settled == SETTLED:
            break
    return CostModel(_staircase(best) if buckets else best, buckets)


def _staircase(seconds: Mapping[int, float]) -> dict[int, float]:
    """What calls cost that are padded to the next measured size."""
    out: dict[int, float] = {}
    below = 0
    for size in sorted(seconds):
        out[below + 1] = out[size] = seconds[size]
        below = size
    return out


def _star(count: int, vocabulary: int, steps: int = 0) -> Rows:
    """A root with children: a tree-shaped call of `count` rows; half of them in look-ahead chains of up to `steps`."""
    rows = RowsBuilder()
    nodes = [rows.add_token(1 % vocabulary)]
    tokens = (count + 1) // 2 if steps else count
    nodes += [rows.add_token(i % vocabulary, nodes[0]) for i in range(tokens - 1)]
    left = count - tokens
    for node in nodes:
        rows.add_lookahead_chain(min(steps, left), node)
        left -= min(steps, left)
    return rows.build()


def kept_or_measured(
    model: LanguageModel,
    runtime: Runtime,
    cache: Path,
    lookahead: LookaheadEmbeddings | None = None,
    rehearse: Callable[[CostModel], None] | None = None,
) -> CostModel:
    """The cost table of a model on this machine: read from `cache` if it was kept there, else measured now and kept.

    A measurement takes about a second.

    Args:
        lookahead: what PASS calls are measured with.
        rehearse: writes a few tokens with a new table, so that `CostModel.host` is known.
    """
    cost = _read(_path(model, runtime, cache, lookahead))
    if cost is None:
        vocabulary = min(256, model.vocabulary_size)
        cost = measure(runtime, vocabulary=vocabulary, context=_context(model), lookahead=lookahead)
        if lookahead is not None and lookahead.state is not None:
            tokens = measure(runtime, vocabulary=vocabulary, context=_context(model), every_logit=True)
            cost = CostModel(
                cost.seconds, cost.buckets, cost.host, CostModel(tokens.seconds, tokens.buckets, cost.host)
            )
        if rehearse is not None:
            rehearse(cost)
        # Under the runtime's description of now: captured calls may have turned out to be impossible.
        keep(_path(model, runtime, cache, lookahead), _as_bytes(cost))
    return cost


def _path(model: LanguageModel, runtime: Runtime, cache: Path, lookahead: LookaheadEmbeddings | None) -> Path:
    return cache / "cost" / f"{_key(model, runtime, lookahead)}.json"


def _context(model: LanguageModel) -> int:
    return max(1, min(256, model.capabilities.context_length // 2))


def _key(model: LanguageModel, runtime: Runtime, lookahead: LookaheadEmbeddings | None) -> str:
    """Model, device by its name, runtime, and the parts of the look-ahead file that a call has to compute."""
    parts = "none" if lookahead is None else f"{lookahead.count}" + "".join(f"+{p.name}" for p in lookahead.parts())
    words = f"{FORMAT}-{model.fingerprint}-{_device(model.device)}-{runtime.description}-{parts}"
    return "".join(c if c.isalnum() or c == "-" else "_" for c in words)


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _as_bytes(cost: CostModel) -> bytes:
    kept = {
        "seconds": {str(rows): seconds for rows, seconds in cost.seconds.items()},
        "tokens": None if cost.tokens is None else {str(rows): s for rows, s in cost.tokens.seconds.items()},
        "buckets": cost.buckets,
        "host": [cost.host.get(False, 0.0), cost.host.get(True, 0.0)],
    }
    return json.dumps(kept).encode()


def _read(path: Path) -> CostModel | None:
    """A kept table; None when there is none or it is damaged (it is then measured again)."""
    try:
        raw = json.loads(path.read_text())
        seconds = {int(rows): float(s) for rows, s in raw["seconds"].items()}
        host = {bool(drafts): float(s) for drafts, s in enumerate(raw["host"]) if s > 0}
        buckets = tuple(int(size) for size in raw["buckets"])
        tokens = None if raw["tokens"] is None else {int(rows): float(s) for rows, s in raw["tokens"].items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return None
    if not seconds or min(seconds.values()) <= 0 or (tokens is not None and not min(tokens.values(), default=0.0) > 0):
        return None
    return CostModel(seconds, buckets, host, None if tokens is None else CostModel(tokens, buckets, host))
