"""What the window is doing: one answer, whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from PySide6.QtCore import QObject, Signal

from app.engine.jobs import Job, JobRunner
from app.engine.run import Run
from app.engine.session import EngineSession
from pass_core.progress import Progress


@dataclass(frozen=True, slots=True)
class Doing:
    """A moment of it.

    Attributes:
        title: in a person's words ("training", "a generation").
        detail: the present part of it, "" where there is only one.
        done, total: how far, in `unit`; total is None while unknown.
        seconds_left: None while unknown.
        stopping: whether it was asked to end.
    """

    title: str
    detail: str = ""
    done: float = 0.0
    total: float | None = None
    unit: str = ""
    seconds_left: float | None = None
    stopping: bool = False


class Activity(QObject):
    """Follows the session and the jobs. Work of several of them (a comparison) is one activity while it is `inside`.

    Attributes:
        now: the activity in progress, None when there is none.

    Signals:
        changed(): read `now`.
    """

    changed = Signal()

    def __init__(self, session: EngineSession, jobs: JobRunner, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session, self._jobs = session, jobs
        self._whole: tuple[str, Callable[[], None]] | None = None
        self._told = ""
        self._job: Job | None = None
        self._run: Run | None = None
        self.now: Doing | None = None
        session.run_started.connect(self._run_started)
        session.run_progressed.connect(self._run_progressed)
        session.state_changed.connect(self._refresh)
        jobs.started.connect(self._job_started)

    def begin(self, title: str, stop: Callable[[], None]) -> None:
        """What follows is part of one activity until `end`; `stop` ends all of it."""
        self._whole, self._told, self.now = (title, stop), "", None
        self._refresh()

    def tell(self, detail: str) -> None:
        """Name the present part of the activity of `begin`; "" leaves it to progress."""
        self._told = detail
        self._refresh()

    def end(self) -> None:
        """The activity of `begin` is over."""
        self._whole, self._told = None, ""
        self._refresh()

    def stop(self) -> None:
        """Ask the activity in progress to end."""
        if self._whole is not None:
            self._whole[1]()
        elif self._job is not None:
            self._job.cancel()
        else:
            self._session.stop()
        self._refresh()

    def _job_started(self, job: Job) -> None:
        if self._job is None or job is self._jobs.exclusive:
            self._job = job
        job.progress.connect(lambda progress: self._progressed(job, progress))
        job.done.connect(lambda: self._job_done(job))
        self._refresh()

    def _job_done(self, job: Job) -> None:
        if job is self._job:
            self._job = next(iter(self._jobs.running()), None)
        self._refresh()

    def _progressed(self, job: Job, progress: Progress) -> None:
        if job is self._job:
            self._refresh(progress)

    def _run_started(self, run: Run) -> None:
        self._run = run
        run.finished.connect(lambda: self._run_finished(run))
        self._refresh()

    def _run_finished(self, run: Run) -> None:
        if run is self._run:
            self._run = None
        self._refresh()

    def _run_progressed(self, _run: Run) -> None:
        self._refresh()

    def _refresh(self, progress: object = None) -> None:
        self.now = self._look(progress if isinstance(progress, Progress) else None)
        self.changed.emit()

    def _look(self, progress: Progress | None) -> Doing | None:
        title = self._whole[0] if self._whole is not None else ""
        job, run = self._job, self._run
        if job is not None and job.running and (run is None or job is self._jobs.exclusive):
            doing = self._of_job(title or job.title, job, progress)
        elif run is not None:
            doing = self._of_run(title or "a generation", run)
        elif title:
            doing = Doing(title)
        else:
            return None
        return replace(doing, detail=self._told) if self._told else doing

    def _of_job(self, title: str, job: Job, progress: Progress | None) -> Doing:
        stopping = job.given_up
        if progress is not None:
            p = progress
            return Doing(title, p.stage, p.done, p.total, p.unit, p.seconds_left, stopping)
        if self.now is not None and self.now.title == title:
            return replace(self.now, stopping=stopping)
        return Doing(title, stopping=stopping)

    def _of_run(self, title: str, run: Run) -> Doing:
        done, total = run.totals.new_tokens, run.request.stop.max_new_tokens
        pace = run.summary.tokens_per_second if done else 0.0
        detail = run.request.label or ("writing" if done else "reading the prompt")
        left = (total - done) / pace if pace > 0 else None
        return Doing(title, detail, done, total, "tokens", left, self._session.stopping)
