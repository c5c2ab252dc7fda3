"""Long work in the engine thread: progress, cancellation, and a claim on the model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Signal

from app.engine.thread import EngineThread
from pass_core.progress import Cancelled, CancelToken, Progress

log = logging.getLogger(__name__)


class JobRefused(RuntimeError):
    """The model is in use; the message says by what."""


class JobCancel(CancelToken):
    """Where long work looks whether it shall end, it can rest, too: short work gets its turn there."""

    def __init__(self, rest: Callable[[], None]) -> None:
        super().__init__()
        self._rest = rest

    @property
    def cancelled(self) -> bool:
        if not super().cancelled:
            self._rest()
        return super().cancelled

    def raise_if_cancelled(self) -> None:
        """
        Raises:
            Cancelled: when `cancel` was called.
        """
        if self.cancelled:
            super().raise_if_cancelled()


class JobControl:
    """Handed to the work: how it reports and learns of cancellation. Safe to use from the engine thread.

    Attributes:
        cancel: the work looks at it at least once a second; closing the window waits for that.
    """

    def __init__(self, job: Job, rest: Callable[[], None]) -> None:
        self._job = job
        self.cancel: CancelToken = JobCancel(rest)

    def progress(self, progress: Progress) -> None:
        """Report progress (a `ProgressCallback`)."""
        self._job.reported.emit(progress)

    def emit(self, event: object) -> None:
        """Send anything to the GUI thread, in order, as the job's `received` signal."""
        self._job.sent.emit(event)


class Job(QObject):
    """One piece of work in the engine thread.

    Attributes:
        title: what it does, in a person's words ("training").
        running: until one of the final signals was delivered.
        given_up: whether it was asked to end.

    Signals (all delivered in the GUI thread):
        progress(Progress), received(object): while it runs.
        succeeded(object), failed(BaseException), cancelled(): exactly one of them, then
        done().
    """

    progress = Signal(object)
    received = Signal(object)
    succeeded = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    done = Signal()
    # Emitted by the engine thread; bound methods of this object receive them in the GUI thread.
    reported = Signal(object)
    sent = Signal(object)
    _ended = Signal(object, object)

    def __init__(
        self, title: str, work: Callable[[JobControl], Any], rest: Callable[[], None], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.title = title
        self.running = True
        self.control = JobControl(self, rest)
        self._work = work
        self.given_up = False
        self.reported.connect(self._relay_progress)
        self.sent.connect(self._relay_event)
        self._ended.connect(self._deliver)

    def cancel(self) -> None:
        """Ask the work to end; `cancelled` follows when it has."""
        self.given_up = True
        self.control.cancel.cancel()

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

    def carry_out(self) -> None:
        """Do the work, in the engine thread; one that was cancelled while it waited is not begun."""
        value, error = None, None
        try:
            if self.given_up:
                raise Cancelled("cancelled by the user")
            value = self._work(self.control)
        except BaseException as raised:
            error = raised
        try:
            self._ended.emit(value, error)
        except RuntimeError:  # the window, and this object with it, is gone already
            log.debug("%s ended after its window", self.title)

    def _relay_progress(self, progress: Progress) -> None:
        self.progress.emit(progress)

    def _relay_event(self, event: object) -> None:
        self.received.emit(event)

    def _deliver(self, value: object, error: BaseException | None) -> None:
        self.running = False
        if error is None:
            self.succeeded.emit(value)
        elif isinstance(error, Cancelled):
            self.cancelled.emit()
        else:
            log.warning("%s failed: %s", self.title, error)
            self.failed.emit(error)
        self.done.emit()


class JobRunner(QObject):
    """Hands jobs to the engine thread, keeps them alive, and lets at most one of them hold the model.

    Signals:
        exclusive_changed(str): title of the job that holds the model, "" when none does.
        started(Job): any job was handed over.
    """

    exclusive_changed = Signal(str)
    started = Signal(object)

    def __init__(self, thread: EngineThread, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._thread = thread
        self._jobs: set[Job] = set()
        self._exclusive: Job | None = None
        self.refuse_when: Callable[[], str] = lambda: ""

    @property
    def exclusive_title(self) -> str:
        """Title of the job that holds the model, "" when none does."""
        return self._exclusive.title if self._exclusive is not None else ""

    @property
    def exclusive(self) -> Job | None:
        """The job that holds the model."""
        return self._exclusive

    def start(self, title: str, work: Callable[[JobControl], Any], *, exclusive: bool = False) -> Job:
        """Run `work(control)` in the engine thread; connect to the job's signals before control returns to Qt.

        Args:
            exclusive: the work uses the model, so that nothing else may. Other work is short: what runs lets it in
                where it can rest.

        Raises:
            JobRefused: `exclusive`, and the model is in use; or the window is closing.
        """
        if exclusive and (holder := self.exclusive_title or self.refuse_when()):
            raise JobRefused(f"The model is busy with {holder}. Wait for it to finish, or stop it first.")
        if self._thread.leaving:
            raise JobRefused("The window is closing.")
        job = Job(title, work, self._thread.let_short_tasks_in if exclusive else _go_on, self)
        self._jobs.add(job)
        job.done.connect(lambda: self._forget(job))
        if exclusive:
            self._exclusive = job
            self.exclusive_changed.emit(title)
        self.started.emit(job)
        self._thread.submit(job.carry_out, short=not exclusive)
        return job

    def running(self) -> list[Job]:
        """Jobs that have not ended."""
        return [j for j in self._jobs if j.running]

    def cancel_all(self) -> None:
        """Ask every job to end."""
        for job in list(self._jobs):
            job.cancel()

    def _forget(self, job: Job) -> None:
        self._jobs.discard(job)
        if job is self._exclusive:
            self._exclusive = None
            self.exclusive_changed.emit("")
        job.deleteLater()


def _go_on() -> None:
    """Short work does not rest."""
