"""The real window, which does one thing until it is killed; run as `python -m tests.app.window.killed_window`.

Arguments: a JSON object with `state` (what to do), `after` (what the window before this one did when it was killed),
`model` (a folder), `gguf` (a GGUF file that no window has converted yet) and `interrupted` (that of the window before).
Standard output has one JSON object a line: first what the start found, then `{"doing": state}` once that is under way.

Everything that a person would see as a complaint counts: the banner, notices of the history, errors and warnings in the
log, Qt's warnings, unexpected errors.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import QtMsgType, qInstallMessageHandler

from app import application
from app.compare.page import ComparePage
from app.engine.tasks import spawn
from app.history.service import HistoryService
from app.state.context import ErrorReport
from app.state.loader import ModelChoice
from app.training.page import TrainPage
from app.training.plan import TrainingPlan
from pass_core.models.fetch import cached
from pass_core.models.storage import models_folder
from pass_core.training.config import TrainingConfig, TrainingKind
from tests.core.records.strategies import example_record

STATES = ("generate", "compare", "train", "convert", "history")
TRAINING = TrainingConfig(
    kind=TrainingKind.EMBEDDINGS, lookahead=3, steps=1_000_000, batch=2, rows=12, length=32, warmup=1,
    evaluate_every=20, evaluate_contexts=12, checkpoint_every=2,
)  # fmt: skip
PATIENCE = 500.0  # the machine may be busy, and stopped for somebody's measurement


def say(**message: Any) -> None:
    """One line for whoever kills this process."""
    print(json.dumps(message), flush=True)


class Complaints(logging.Handler):
    """Everything that is not as it should be at a start after a kill."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []
        qInstallMessageHandler(self._qt)

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"log: {record.getMessage()}")

    def _qt(self, kind: QtMsgType, context: object, message: str) -> None:
        if kind is not QtMsgType.QtDebugMsg and not message.startswith("This plugin"):
            self.found.append(f"Qt: {message}")


class Doomed(application.Program):
    """The program, with somebody at it."""

    def start(self) -> None:
        self.given: dict[str, Any] = json.loads(sys.argv[1])
        self.complaints = Complaints()
        logging.getLogger().addHandler(self.complaints)
        self.context.error_raised.connect(self._banner)
        self.context.notice_raised.connect(lambda text: self.complaints.found.append(f"notice: {text}"))
        self._crashes._show = lambda text: self.complaints.found.append(f"crash: {text}")
        history = self.window.findChild(HistoryService)
        assert history is not None
        self.history = history
        super().start()
        spawn(self._live(), self._failed)

    def _banner(self, report: ErrorReport) -> None:
        self.complaints.found.append(f"banner: {report.sentence}\n{report.details}")

    def _failed(self, error: BaseException) -> None:
        say(failed="".join(traceback.format_exception(error)), complaints=self.complaints.found)
        self._leave(1)

    async def _live(self) -> None:
        await until(lambda: self.context.lookahead is not None)
        runs = await self._ask(lambda store: {e.id: len(store.load(e.id).steps) for e in store.entries()})
        after = self.given["after"]
        resumed = await self._resumed() if after == "train" else None
        if after == "convert":
            await self._load(self.given["interrupted"])
            await self._load(self.given["model"])
        loose = [p.name for p in models_folder().glob(".*.partial")]
        say(complaints=self.complaints.found, runs=runs, resumed=resumed, loose=loose)
        state = self.given["state"]
        if state:
            await getattr(self, f"_{state}")()
        else:
            self._leave(0)

    async def _resumed(self) -> int:
        """Go on with the training that was killed; the step that it goes on at."""
        from pass_core.training.events import Started

        page = self._train_page()
        plan = page.unfinished()
        if plan is None:
            return -1
        begun: list[int] = []
        page.controller.reported.connect(lambda e: begun.append(e.step) if isinstance(e, Started) else None)
        page.resume()
        await until(lambda: bool(begun))
        page.controller.cancel()
        await until(lambda: not self.context.working)
        return begun[0]

    async def _load(self, source: str) -> None:
        self.loader.load(ModelChoice(source))
        await until(lambda: not self.loader.loading and self.context.lookahead is not None)
        assert self.loader.choice.source == source, self.complaints.found
        assert cached(Path(source)) is not None

    async def _ask(self, work: Any) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.history.ask(work, answer.set_result)
        return await asyncio.wait_for(answer, PATIENCE)

    def _train_page(self) -> TrainPage:
        page = self.window.page("train")
        assert isinstance(page, TrainPage)
        return page

    # -- what it does until it is killed ------------------------------------------------------------------------------

    async def _generate(self) -> None:
        setup = self.context.setup.value
        self.context.setup.set(replace(setup, stop=replace(setup.stop, max_new_tokens=200, ignore_eos=True)))
        self.context.session.steps_arrived.connect(lambda *_: say(doing="generate"))
        while True:
            self.generate.run()
            await until(lambda: not self.context.working)

    async def _compare(self) -> None:
        setup = self.context.setup.value
        self.context.setup.set(replace(setup, stop=replace(setup.stop, max_new_tokens=60, ignore_eos=True)))
        page = self.window.page("compare")
        assert isinstance(page, ComparePage)
        page.runner.steps_arrived.connect(lambda *_: say(doing="compare"))
        while True:
            page.compare()
            await until(lambda: not self.context.working)

    async def _train(self) -> None:
        from pass_core.training.events import CheckpointSaved

        page = self._train_page()
        folder = Path(self.given["home"])
        page.controller.reported.connect(
            lambda e: say(doing="train", step=e.step, file=str(e.path)) if isinstance(e, CheckpointSaved) else None
        )
        out = folder / f"made-{self.given['number']}.safetensors"
        page.form.take(TrainingPlan(TRAINING, str(folder / "text"), 12, out))
        page.start()
        await asyncio.Event().wait()

    async def _convert(self) -> None:
        self.loader.progress.connect(lambda p: say(doing="convert", stage=p.stage))
        self.loader.load(ModelChoice(self.given["gguf"]))
        await asyncio.Event().wait()

    async def _history(self) -> None:
        """Runs come, get other names, and go."""
        example = example_record()
        number = 0
        while True:
            name = f"{self.given['number']:08x}{number:024x}"
            await self._ask(lambda store, n=name: store.add(replace(example, id=n)))
            say(doing="history", added=name, steps=len(example.steps))
            await self._ask(lambda store, n=name: store.rename(n, f"another name {n}"))
            if number % 3 == 2:
                gone = f"{self.given['number']:08x}{number - 2:024x}"
                say(doing="history", deleting=gone)
                await self._ask(lambda store, n=gone: store.delete([n]))
            number += 1


async def until(true: Any) -> None:
    """
    Raises:
        TimeoutError: it did not become true in time.
    """
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    application.Program = Doomed  # type: ignore[misc]
    sys.exit(application.main(["--model", json.loads(sys.argv[1])["model"]]))
