"""A loop that only calls back, turned into an iterator without a second thread.

torch in a second thread is up to three times slower (every thread has an OpenMP pool of its own), so a foreign loop is
run in a greenlet: a second stack of the same thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import greenlet
import torch

T = TypeVar("T")


def produced(work: Callable[[Callable[[T], None]], None]) -> Iterator[T]:
    """What `work` gives to the callable that it gets, one value at a time.

    `work` goes on when the next value is asked for. It is ended by an exception (GreenletExit) where the iterator is
    closed early. All of it happens in the thread that iterates, which must be one and the same.

    Raises:
        whatever `work` raises.
    """

    def give(value: T) -> None:
        consumer = greenlet.getcurrent().parent
        assert consumer is not None
        with torch.inference_mode(False):  # the mode belongs to the thread: the consumer must not inherit it
            consumer.switch(value)

    worker = greenlet.greenlet(lambda: work(give))
    try:
        value = worker.switch()
        while not worker.dead:
            yield value
            worker.parent = greenlet.getcurrent()
            value = worker.switch()
    finally:
        if not worker.dead:
            worker.parent = greenlet.getcurrent()
            worker.throw(greenlet.GreenletExit)
