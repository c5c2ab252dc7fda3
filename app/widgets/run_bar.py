"""The buttons of a measurement: start, continue, stop; and its progress."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from app.engine.measurement import Measurement, MeasurementState
from app.state.context import AppContext
from app.theme.icons import set_icon
from app.widgets.basic import row
from app.widgets.progress_strip import ProgressStrip
from app.widgets.text_format import sentence_case


class RunBar(QWidget):
    """Follows a measurement and what holds the model.

    Args:
        strip: whether progress shows below the buttons.
        tip: tooltip of `run` while it can be pressed.
        gives_way: whether the work that holds the model stops for this.

    Attributes:
        run, resume, stop: its buttons; `stop` takes the place of the other two while the job runs.
        progress: what is being done, and how far.

    Signals:
        run_clicked(), resume_clicked().
    """

    run_clicked = Signal()
    resume_clicked = Signal()

    def __init__(
        self,
        context: AppContext,
        job: Measurement,
        text: str,
        *,
        resume_text: str = "Continue",
        strip: bool = True,
        tip: str = "",
        gives_way: Callable[[], bool] = lambda: False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._context, self._job = context, job
        self._tip, self._gives_way = tip, gives_way
        self._resumable = False
        self._obstacle = ""
        self.run = QPushButton(text)
        self.run.setProperty("role", "primary")
        self.resume = QPushButton(resume_text)
        self.resume.setToolTip("Continue the stopped measurement")
        self.stop = QPushButton("Stop")
        set_icon(self.stop, "ph.stop-fill", context.theme, "danger", "danger")
        self.progress = ProgressStrip(context.theme)
        self._strip = strip
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(row(self.run, self.resume, self.stop))
        column.addWidget(self.progress)
        self.run.clicked.connect(self.run_clicked)
        self.resume.clicked.connect(self.resume_clicked)
        self.stop.clicked.connect(job.stop)
        self.progress.cancelled.connect(job.stop)
        job.state_changed.connect(self._follow)
        job.progressed.connect(self.progress.show_progress)
        context.model_changed.connect(self.refresh)
        context.busy_changed.connect(self.refresh)
        self.refresh()

    def set_resumable(self, resumable: bool) -> None:
        """Whether a stopped measurement can continue."""
        self._resumable = resumable
        self.refresh()

    def set_obstacle(self, why: str) -> None:
        """Why it cannot be started besides the model being in use; "" when it can."""
        self._obstacle = why
        self.refresh()

    @property
    def free(self) -> bool:
        """Whether it could be started now."""
        busy = self._context.busy_with and not self._gives_way()
        return self._context.model is not None and not busy and not self._obstacle

    def refresh(self, *_: object) -> None:
        """Show what can be done."""
        active, free, busy = self._job.active, self.free, self._context.busy_with
        self.run.setVisible(not active)
        self.run.setEnabled(free)
        self.resume.setVisible(not active and self._resumable)
        self.resume.setEnabled(free)
        self.stop.setVisible(active)
        self.stop.setEnabled(self._job.state is MeasurementState.RUNNING)
        self.stop.setText("Stopping…" if self._job.state is MeasurementState.STOPPING else "Stop")
        why = self._obstacle or (f"The model is busy with {busy}." if busy else "")
        if self._context.model is None:
            why = "No model is loaded."
        self.run.setToolTip(self._tip if free else sentence_case(why))

    def _follow(self) -> None:
        if self._strip and self._job.state is MeasurementState.RUNNING:
            self.progress.begin("Preparing")
        elif not self._job.active:
            self.progress.end()
        self.refresh()
