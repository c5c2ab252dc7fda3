"""A loop that only calls back, turned into an iterator without a second thread.

torch in a second thread is up to three times slower (every thread has an OpenMP pool of its own). So a foreign loop
runs in a greenlet: a second stack of the same thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import greenlet
import torch

T = TypeVar("T")


def produced(work: Callable[[Callable[[T], None]], None]) -> Iterator[T]:
    """Yields the values that `work` hands to its argument, one at a time.

    `work` continues when the consumer asks for the next value. Closing the iterator early raises GreenletExit in
    `work`. Everything happens in the thread that iterates; it must be one thread.

    Raises:
        Exception: any that `work` raises.
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
