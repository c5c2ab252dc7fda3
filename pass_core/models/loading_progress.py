"""Progress and cancellation while transformers loads tensors."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from pass_core.progress import CancelToken, ProgressCallback, ProgressReporter

_hook_lock = threading.Lock()


@contextlib.contextmanager
def loading_progress(stage: str, progress: ProgressCallback | None, cancel: CancelToken | None) -> Generator[None]:
    """Turn transformers' progress bar over tensors into reports and cancellation checks, and print nothing."""
    from transformers.utils import logging

    class Bar:
        """Stands in for tqdm."""

        def __init__(self, items: Iterable[Any] | None = None, total: float | None = None, **_: Any) -> None:
            self._items = items
            size: Any = getattr(items, "__len__", None)
            self._reporter = ProgressReporter(stage, total or (size() if size else None), "tensors", progress, cancel)
            self._done = 0.0

        def __iter__(self) -> Iterator[Any]:
            for item in self._items or ():
                self.update(1)
                yield item

        def update(self, n: float = 1) -> None:
            self._done += n
            self._reporter.update(self._done)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def __getattr__(self, _: str) -> Callable[..., None]:
            return lambda *args, **kwargs: None

    def hook(_: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bar:
        return Bar(*args, **kwargs)

    set_hook: Any = getattr(logging, "set_tqdm_hook", None)
    if set_hook is None:
        yield
        return
    with _hook_lock:
        previous, level = set_hook(hook), logging.get_verbosity()
        logging.set_verbosity_error()  # what it would warn of is refused in a sentence of ours
        try:
            yield
        finally:
            logging.set_verbosity(level)
            set_hook(previous)
