"""Writes into the log what a person would look for there: loads with device and format, runs, long work, errors."""

from __future__ import annotations

import logging

from PySide6.QtCore import QObject

from app.engine.jobs import Job
from app.engine.run import Run
from app.state.context import AppContext, ErrorReport
from app.state.loader import Loader, ModelChoice

log = logging.getLogger("app.diary")


class Diary(QObject):
    """Follows context and loader for the life of the window."""

    def __init__(self, context: AppContext, loader: Loader) -> None:
        super().__init__(context)
        self._context = context
        loader.requested.connect(self._requested)
        loader.choice_changed.connect(self._loaded)
        loader.failed.connect(self._load_failed)
        context.error_raised.connect(self._error)
        context.session.run_started.connect(self._run_started)
        context.session.run_finished.connect(self._run_finished)
        context.jobs.started.connect(self._job_started)

    def _requested(self, choice: ModelChoice) -> None:
        log.info(
            "load: %s, device %s, dtype %s, weights %s asked for",
            choice.source or "the default model",
            choice.device,
            choice.dtype,
            choice.quantize,
        )

    def _loaded(self, choice: ModelChoice) -> None:
        model = self._context.model
        if model is None:
            return
        dtype = str(model.dtype).removeprefix("torch.")
        log.info("loaded %s on %s in %s", model.name, model.device, dtype)
        if model.weights_reason:
            log.info("%s computes with %s", model.name, model.weights_reason)
        if not model.capabilities.supports_pass:
            log.warning("%s decodes plainly: %s", model.name, model.capabilities.reason)

    def _load_failed(self, sentence: str) -> None:
        if not sentence:
            log.info("the load was cancelled")

    def _error(self, report: ErrorReport) -> None:
        log.error("%s", report.sentence + ("\n" + report.details.rstrip() if report.details else ""))

    def _run_started(self, run: Run) -> None:
        r = run.request
        s = r.settings
        log.info("run %d begins: %s, k %d, seed %d, %s", run.id, s.strategy.value, s.k, r.seed, r.label)

    def _run_finished(self, run: Run) -> None:
        s = run.summary
        reason = run.totals.stop_reason.value if run.totals.stop_reason else "ended"
        log.info("run %d: %d tokens, %.1f tokens/s, %s", run.id, s.new_tokens, s.tokens_per_second, reason)

    def _job_started(self, job: Job) -> None:
        log.info("%s begins", job.title)
        job.succeeded.connect(lambda _: log.info("%s ended", job.title))
        job.cancelled.connect(lambda: log.info("%s was stopped", job.title))
