"""Drafting is taken up where it pays and costs a text next to nothing where it does not: whole texts, on a simulated
machine whose clock the test moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from pass_core.decoding.economy import PAUSE, SHARE, Economy
from pass_core.decoding.fused import NOT_PAYING
from pass_core.kernels.interface import DraftHead, DraftRows, GrownTree, GrowRequest, IntArray
from pass_core.kernels.reference import ReferenceKernels
from pass_core.runtime.cost import CostModel
from pass_core.runtime.rows import Rows
from pass_core.settings import Strategy
from tests import tiny
from tests.core.decoding.engine import Result, TableRuntime, TokenCache, random_lookahead, run, sharp
from tests.engines import use

VOCABULARY = 32
PLAIN = 0.010
COUNT = 400


@dataclass
class Machine:
    """What everything takes, in seconds.

    Attributes:
        row: of each row beyond the first.
        drafting: of growing a tree.
        plain: of a forward pass of one row.
        known: what the table says of rows, where it differs from the truth.
    """

    row: float
    drafting: float = 0.0
    plain: float = PLAIN
    known: float | None = None
    now: float = 0.0
    grown: list[float] = field(default_factory=list[float])

    def table(self) -> CostModel:
        row = self.row if self.known is None else self.known
        seconds = {n: self.plain + (n - 1) * row for n in (1, 2, 4, 8, 16, 32, 48)}
        return CostModel(seconds, clock=lambda: self.now)


class TimedRuntime(TableRuntime):
    def __init__(self, machine: Machine, right: Callable[[int], bool]) -> None:
        super().__init__(
            VOCABULARY,
            lambda c: sharp(VOCABULARY, (c[-1] + 1) % VOCABULARY),
            lambda c, step: sharp(VOCABULARY, (c[-1] + 2 + step + (not right(len(c)))) % VOCABULARY),
        )
        self.machine = machine

    def forward(self, cache: TokenCache, rows: Rows) -> torch.Tensor:
        self.machine.now += self.machine.plain + (rows.count - 1) * self.machine.row
        return super().forward(cache, rows)


class TimedKernels(ReferenceKernels):
    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine

    def grow_tree(
        self, rows: DraftRows, request: GrowRequest, head: DraftHead | None = None, text: IntArray | None = None
    ) -> GrownTree:
        self.machine.now += self.machine.drafting
        self.machine.grown.append(self.machine.now)
        return super().grow_tree(rows, request, head, text)


def written(machine: Machine, right: Callable[[int], bool], count: int = COUNT, **settings: Any) -> Result:
    """A text whose look-ahead rows guess right where `right` (a length of the text) says so."""
    model = tiny.tiny_llama(vocabulary=VOCABULARY, max_position_embeddings=1024)
    use(model, runtime=TimedRuntime(machine, right), kernels=TimedKernels(machine), cost=machine.table())
    lookahead = random_lookahead(model, 5)
    got = run(model, [0, 1], Strategy.FUSED, k=5, count=count, auto=True, lookahead=lookahead, top_k=4, **settings)
    assert got.ids == [(i + 2) % VOCABULARY for i in range(count)]
    return got


def seconds(got: Result) -> float:
    return sum(s.seconds for s in got.steps)


def never(length: int) -> bool:
    return False


def always(length: int) -> bool:
    return True


def a_third(length: int) -> bool:
    return length * 2654435761 % 2**32 < 2**32 / 3


def second_half(length: int) -> bool:
    return length > COUNT / 2


FLAT: dict[str, Any] = {"row": 0.00001}
DEAR_ROWS: dict[str, Any] = {"row": 0.006}
DEAR_HOST: dict[str, Any] = {"row": 0.00001, "drafting": 0.060}
GUESSES: dict[str, Callable[[int], bool]] = {
    "never": never,
    "a third": a_third,
    "always": always,
    "second half": second_half,
}


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("machine", [FLAT, DEAR_ROWS, DEAR_HOST], ids=["flat", "dear rows", "dear drafting"])
@pytest.mark.parametrize("known", [None, 0.0], ids=["measured", "wrongly measured"])
def test_a_text_never_takes_three_per_cent_longer_than_a_plain_one(
    machine: dict[str, Any], guess: str, known: float | None
) -> None:
    got = written(Machine(**machine, known=known), GUESSES[guess])
    assert seconds(got) <= 1.03 * COUNT * PLAIN


def test_where_rows_are_nearly_free_it_drafts() -> None:
    got = written(Machine(**FLAT), always)
    assert seconds(got) < 0.3 * COUNT * PLAIN


@pytest.mark.parametrize("machine", [DEAR_ROWS, DEAR_HOST], ids=["rows", "drafting"])
def test_where_drafting_is_dear_nearly_all_steps_are_plain_and_say_so(machine: dict[str, Any]) -> None:
    timed = Machine(**machine)
    got = written(timed, a_third)
    plain = [s for s in got.steps if s.rows == (1,)]
    assert len(plain) > 0.95 * len(got.steps)
    assert sum(s.reason == NOT_PAYING for s in got.steps) > 0.9 * len(got.steps)
    assert len(timed.grown) <= 8, "plain steps grow no tree"


def test_drafting_is_taken_up_when_the_text_becomes_easy() -> None:
    got = written(Machine(row=0.0002, drafting=0.001), second_half)
    length, late = 0, []
    for step in got.steps:
        length += len(step.tokens)
        if length > 0.75 * COUNT:
            late.append(step)
    assert sum(len(s.tokens) for s in late) > 3 * len(late)
    assert seconds(got) < 0.8 * COUNT * PLAIN


def test_a_machine_that_becomes_slower_is_not_blamed_on_drafting() -> None:
    """Another program takes half of the processor: plain calls become dearer, too, and are looked at again."""
    slow = Machine(row=0.0001, plain=3 * PLAIN)
    model = tiny.tiny_llama(vocabulary=VOCABULARY, max_position_embeddings=1024)
    table = Machine(row=0.0001).table()
    cost = CostModel(table.seconds, clock=lambda: slow.now)
    use(model, runtime=TimedRuntime(slow, always), kernels=TimedKernels(slow), cost=cost)
    got = run(model, [0, 1], Strategy.FUSED, k=5, count=200, auto=True, lookahead=random_lookahead(model, 5), top_k=4)
    assert seconds(got) < 0.4 * 200 * 3 * PLAIN


def test_draft_anyway() -> None:
    """Without auto every step drafts, whatever it costs."""
    model = tiny.tiny_llama(vocabulary=VOCABULARY, max_position_embeddings=1024)
    machine = Machine(**DEAR_HOST)
    use(model, runtime=TimedRuntime(machine, never), kernels=TimedKernels(machine), cost=machine.table())
    got = run(model, [0, 1], Strategy.FUSED, k=3, count=40, lookahead=random_lookahead(model, 5), top_k=4)
    assert all(s.drafts for s in got.steps[1:-1])


# The account


def fed(account: Economy, steps: Sequence[tuple[int, float]], loss: float) -> int:
    """Steps (tokens, seconds) of drafting wherever the account allows it, else plain ones; how many drafted."""
    drafted = 0
    for tokens, took in steps:
        if account.drafting or account.probe(loss):
            drafted += 1
            account.drafting_step(tokens, took)
        else:
            account.plain_step(account.plain)
    return drafted


def test_what_drafting_loses_is_a_share_of_the_time() -> None:
    account = Economy(1.0, 1000)
    drafted = fed(account, [(1, 1.5)] * 5000, 1.5)
    assert drafted > 0
    assert -account.balance <= SHARE * account.seconds + 0.5


def test_pauses_double_while_drafting_never_pays_and_start_anew_when_it_did() -> None:
    account = Economy(1.0, 10_000)
    taken_up: list[int] = []
    for step in range(4000):
        if account.drafting or account.probe(0.3):
            if account.forced:
                taken_up.append(step)
            account.drafting_step(1, 1.1)
            if not account.forced:
                account.give_up()
        else:
            account.plain_step(1.0)
    gaps = np.diff([s for s in taken_up if s - 1 not in taken_up])
    assert (gaps[1:] >= gaps[:-1]).all()
    assert gaps[-1] >= 8 * PAUSE
    account.plain_step(1.0)
    while not account.probe(0.3):
        account.plain_step(1.0)
    account.drafting_step(5, 1.1)
    account.give_up()
    for _ in range(PAUSE):
        account.plain_step(1.0)
    assert account.probe(0.3)
