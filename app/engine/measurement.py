"""One long measurement of a panel: at most one at a time, started and stopped, its events sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from app.engine.jobs import Job, JobControl, JobRefused
from pass_core.progress import Progress

if TYPE_CHECKING:
    from app.state.context import AppContext


class MeasurementState(StrEnum):
    """What a measurement is doing."""

    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"


class Measurement(QObject):
    """Long work of a page as its buttons and the status line see it: idle, running, stopping.

    Attributes:
        title: what it does, in a person's words ("a benchmark").
        state: see MeasurementState.

    Signals:
        state_changed(): read `state`.
        progressed(Progress): while it runs.
        ended(): last, however it ended; the model is free by then.
    """

    state_changed = Signal()
    progressed = Signal(object)
    ended = Signal()

    def __init__(
        self,
        context: AppContext,
        title: str,
        stop: Callable[[], None] | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._context = context
        self._stop = stop
        self.title = title
        self.state = MeasurementState.IDLE

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state is not MeasurementState.IDLE

    def begin(self) -> None:
        """It runs from now on."""
        if not self.active:
            self._context.activity.begin(self.title, self.stop)
            self._set(MeasurementState.RUNNING)

    def stop(self) -> None:
        """Stop after the forward pass in progress; finished work is kept."""
        if self.state is MeasurementState.RUNNING:
            self._set(MeasurementState.STOPPING)
            if self._stop is not None:
                self._stop()

    def end(self) -> None:
        """It is over."""
        if self.active:
            self._context.activity.end()
            self._set(MeasurementState.IDLE)
            self.ended.emit()

    def _set(self, state: MeasurementState) -> None:
        if state is not self.state:
            self.state = state
            self.state_changed.emit()


class MeasurementJob(Measurement):
    """A measurement that is one job: claims the model from start to end, and says plainly when it is in use.

    Attributes:
        explain: what the banner says of an error that ended it.

    Signals:
        received(object): while it runs.
        succeeded(object): what the work returned.
    """

    received = Signal(object)
    succeeded = Signal(object)

    def __init__(
        self,
        context: AppContext,
        title: str,
        explain: Callable[[BaseException], str] | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(context, title, self._cancel, parent)
        self._job: Job | None = None
        self.explain = explain or (lambda error: f"{title[:1].upper()}{title[1:]} stopped: {error}")

    def start(self, work: Callable[[JobControl], Any]) -> bool:
        """Run `work(control)` in the engine thread.

        Returns:
            Whether it began; when not, the banner says why.
        """
        if self.active:
            return False
        try:
            job = self._context.jobs.start(self.title, work, exclusive=True)
        except JobRefused as error:
            self._context.report_error(str(error))
            return False
        self._job = job
        job.progress.connect(self._relay_progress)
        job.received.connect(self._relay_event)
        job.succeeded.connect(self._relay_result)
        job.failed.connect(self._failed)
        job.done.connect(self._ended)
        self.begin()
        return True

    def _cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def _relay_progress(self, progress: Progress) -> None:
        self.progressed.emit(progress)

    def _relay_event(self, event: object) -> None:
        self.received.emit(event)

    def _relay_result(self, value: object) -> None:
        self.succeeded.emit(value)

    def _failed(self, error: BaseException) -> None:
        self._context.report_error(self.explain(error), error)

    def _ended(self) -> None:
        self._job = None
        self.end()


def relay(control: JobControl, events: Iterable[object]) -> None:
    """Send a measurement's events where they belong: progress to the bars, the rest to the panel."""
    for event in events:
        if isinstance(event, Progress):
            control.progress(event)
        else:
            control.emit(event)
