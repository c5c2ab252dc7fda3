"""Long work in background threads: progress, cancellation, and a claim on the model."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Signal

from pass_core.progress import Cancelled, CancelToken, Progress

log = logging.getLogger(__name__)


class JobRefused(RuntimeError):
    """The model is in use; the message says by what."""


class JobControl:
    """Handed to the work: how it reports and learns of cancellation. Safe to use from the background thread."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.cancel = CancelToken()

    def progress(self, progress: Progress) -> None:
        """Report progress (a `ProgressCallback`)."""
        self._job.reported.emit(progress)

    def emit(self, event: object) -> None:
        """Send anything to the GUI thread, in order, as the job's `event` signal."""
        self._job.sent.emit(event)


class Job(QObject):
    """One piece of work in its own thread.

    Attributes:
        title: what it does, in a person's words ("training").
        running: until one of the final signals was delivered.

    Signals (all delivered in the GUI thread):
        progress(Progress), event(object): while it runs.
        succeeded(object), failed(BaseException), cancelled(): exactly one of them, then
        done().
    """

    progress = Signal(object)
    event = Signal(object)
    succeeded = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    done = Signal()
    # Emitted by the background thread; bound methods of this object receive them in the GUI thread.
    reported = Signal(object)
    sent = Signal(object)
    _ended = Signal(object, object)

    def __init__(self, title: str, work: Callable[[JobControl], Any], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.title = title
        self.running = True
        self.control = JobControl(self)
        self._work = work
        self.reported.connect(self._relay_progress)
        self.sent.connect(self._relay_event)
        self._ended.connect(self._deliver)
        self._thread = threading.Thread(target=self._run, name=f"job: {title}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def cancel(self) -> None:
        """Ask the work to end; `cancelled` follows when it has."""
        self.control.cancel.cancel()

    def wait(self, seconds: float | None = None) -> bool:
        """Block until the thread ended (only when shutting down); False when the time ran out."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    async def result(self) -> Any:
        """Await the work's return value.

        Raises:
            Cancelled: it was cancelled. Whatever else the work raised.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.succeeded.connect(lambda value: future.done() or future.set_result(value))
        self.failed.connect(lambda error: future.done() or future.set_exception(error))
        self.cancelled.connect(lambda: future.done() or future.set_exception(Cancelled("cancelled by the user")))
        return await future

    def _run(self) -> None:
        try:
            value, error = self._work(self.control), None
        except BaseException as raised:
            value, error = None, raised
        try:
            self._ended.emit(value, error)
        except RuntimeError:  # the window, and this object with it, is gone already
            log.debug("%s ended after its window", self.title)

    def _relay_progress(self, progress: object) -> None:
        self.progress.emit(progress)

    def _relay_event(self, event: object) -> None:
        self.event.emit(event)

    def _deliver(self, value: object, error: BaseException | None) -> None:
        self.running = False
        if error is None:
            self.succeeded.emit(value)
        elif isinstance(error, Cancelled):
            self.cancelled.emit()
        else:
            self.failed.emit(error)
        self.done.emit()


class JobRunner(QObject):
    """Starts jobs, keeps them alive, and lets at most one of them hold the model.

    Signals:
        exclusive_changed(str): title of the job that holds the model, "" when none does.
        started(Job): any job began.
    """

    exclusive_changed = Signal(str)
    started = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._jobs: set[Job] = set()
        self._exclusive: Job | None = None
        self.refuse_when: Callable[[], str] = lambda: ""

    @property
    def exclusive_title(self) -> str:
        """Title of the job that holds the model, "" when none does."""
        return self._exclusive.title if self._exclusive is not None else ""

    def start(self, title: str, work: Callable[[JobControl], Any], *, exclusive: bool = False) -> Job:
        """Run `work(control)` in a thread of its own; connect to the returned job's signals at once.

        Args:
            exclusive: the work uses the model, so that nothing else may.

        Raises:
            JobRefused: `exclusive`, and the model is in use.
        """
        if exclusive and (holder := self.exclusive_title or self.refuse_when()):
            raise JobRefused(f"The model is busy with {holder}. Wait for it to finish, or stop it first.")
        job = Job(title, work, self)
        self._jobs.add(job)
        job.done.connect(lambda: self._forget(job))
        if exclusive:
            self._exclusive = job
            self.exclusive_changed.emit(title)
        self.started.emit(job)
        job.start()
        return job

    def running(self) -> list[Job]:
        """Jobs that have not ended."""
        return [j for j in self._jobs if j.running]

    def cancel_all(self) -> None:
        """Ask every job to end."""
        for job in list(self._jobs):
            job.cancel()

    def wait_all(self, seconds: float) -> bool:
        """Block until all threads ended (only when shutting down); False when one did not in time."""
        waited = [job.wait(seconds) for job in list(self._jobs)]
        return all(waited)

    def _forget(self, job: Job) -> None:
        self._jobs.discard(job)
        if job is self._exclusive:
            self._exclusive = None
            self.exclusive_changed.emit("")
        job.deleteLater()
