"""Loads models and look-ahead files in the background and puts them into the context."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from app.engine.jobs import Job, JobControl, JobRefused
from app.engine.tasks import spawn
from app.state.context import AppContext
from app.state.errors import plain_sentence
from pass_core.models.hub_names import is_hub_name
from pass_core.progress import Cancelled, Progress

if TYPE_CHECKING:
    from pass_core.engine import Engine
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel

LOADING = "loading a model"
BIGRAMS = "reading the model's bigrams"
FREEING = "freeing the model"
READING, DOWNLOADING = "reading look-ahead embeddings", "downloading look-ahead embeddings"
KEEP_WHILE_LOADING_BYTES = 2_000_000_000
RECENT = 8
UNASKED_SECONDS = 30.0
SETTLING_SECONDS = 2.0  # before that a cold start makes the time left look longer than it is


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What to load: source (None: the default model), device, dtype and quantisation as `load_model` takes them."""

    source: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"


class Loader(QObject):
    """One load at a time; a new choice replaces the one in progress.

    Attributes:
        choice: what is loaded was loaded from it.
        recent: sources that have loaded, the newest first (besides the known models).
        lookahead_options: see lookahead_options_changed.

    Signals:
        requested(ModelChoice): somebody wants it; its load begins, or waits for the one in progress to be given up.
        loading_changed(str): title of the load in progress, "" when none is.
        progress(Progress): of it.
        failed(str): the plain sentence of a load that failed (the banner shows it, too).
        choice_changed(ModelChoice): the model of the context was loaded from it.
        lookahead_options_changed(list[Path]): the shipped files that fit the loaded model.
        lookahead_chosen(str): a path was loaded because somebody asked for it ("" is the mean embedding).
    """

    requested = Signal(object)
    loading_changed = Signal(str)
    progress = Signal(object)
    failed = Signal(str)
    choice_changed = Signal(object)
    lookahead_options_changed = Signal(list)
    lookahead_chosen = Signal(str)

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self._context = context
        self._job: Job | None = None
        self._active = False
        self._next: tuple[ModelChoice, str | None] | None = None
        self._loading = ""
        self.choice = self._wanted = ModelChoice()
        self.recent: list[str] = [str(s) for s in context.preferences.get("model/recent", [])]
        self.lookahead_options: list[Path] = []
        context.load_model_requested.connect(lambda source: self.load(ModelChoice(source or None)))
        context.load_lookahead_requested.connect(self.load_lookahead)

    @property
    def loading(self) -> str:
        """Title of the load in progress, "" when none is."""
        return self._loading

    def load(self, choice: ModelChoice, lookahead: str | None = None) -> None:
        """Load a model, then the best look-ahead file for it (or `lookahead`, a path)."""
        self._wanted = choice
        self.requested.emit(choice)
        if self._active:
            self._next = (choice, lookahead)
            self.cancel()
            return
        self._begin(LOADING)
        spawn(self._load_until_last(choice, lookahead), self._unexpected)

    def choice_of(self, source: str | None) -> ModelChoice:
        """Another model on the device and in the format chosen last."""
        return replace(self._wanted, source=source)

    def cancel(self) -> None:
        """Give up the load in progress; what was loaded before stays."""
        if self._job is not None:
            self._job.cancel()

    def unload(self) -> None:
        """Free the model."""
        if self._context.busy_with:
            self._context.report_error(
                f"The model is busy with {self._context.busy_with}. Stop it, then unload the model."
            )
            return
        spawn(self._free(self._forget_model()), self._unexpected)

    def load_lookahead(self, path: str) -> None:
        """Load a look-ahead file for the loaded model: a path, a name on the hub ("hf:user/name[/file]"), or "" for
        the training-free mean embedding."""
        spawn(self._load_lookahead(path), self._unexpected)

    def read_bigrams(self) -> None:
        """Read the model's bigrams, which a load may have been too busy for, or been stopped from."""
        lookahead = self._context.lookahead
        if lookahead is not None and self._context.busy_with:
            self._context.report_error(f"The model is busy with {self._context.busy_with}. Wait for it, or stop it.")
        elif lookahead is not None and not self._active:
            spawn(self._read_bigrams_again(lookahead), self._unexpected)

    async def _load_until_last(self, choice: ModelChoice, lookahead: str | None) -> None:
        try:
            await self._load(choice, lookahead)
        finally:
            self._end()

    def _begin(self, title: str) -> None:
        self._active = True
        self._context.activity.begin(title, self.cancel)
        self._set_loading(title)

    def _end(self) -> None:
        self._active = False
        self._context.activity.end()
        self._set_loading("")
        if self._next is not None:
            following, self._next = self._next, None
            self.load(*following)

    async def _load(self, choice: ModelChoice, lookahead: str | None) -> None:
        context = self._context
        old = context.model
        if old is not None and not context.busy_with and old.weight_bytes() > KEEP_WHILE_LOADING_BYTES:
            del old
            await self._free(self._forget_model())
        old = None

        def work(control: JobControl) -> Engine:
            from pass_core.engine import Engine
            from pass_core.models.loading import load_model

            model = load_model(
                choice.source,
                device=choice.device,
                dtype=choice.dtype,  # type: ignore[arg-type]
                quantize=choice.quantize,  # type: ignore[arg-type]
                progress=control.progress,
                cancel=control.cancel,
            )
            engine = Engine(model)
            engine.prepare(progress=control.progress, cancel=control.cancel)
            return engine

        try:
            engine = await self._run(LOADING, work)
        except (Cancelled, JobRefused) as error:
            if isinstance(error, JobRefused):
                context.report_error(str(error), error)
            self._give_up("" if isinstance(error, Cancelled) else str(error))
            return
        except Exception as error:
            if self._next is not None:  # nobody waits for this one any more
                return
            sentence = plain_sentence(error, "The model could not be loaded")
            context.report_error(sentence, error)
            self._give_up(sentence)
            return
        await self._free(self._forget_model())
        _settle_memory()
        self.choice = choice
        self._remember(choice.source)
        await self._find_options(engine.model)
        context.set_engine(engine)
        self.choice_changed.emit(choice)
        if lookahead is None or not await self._load_lookahead(lookahead):
            await self._default_lookahead()

    def _give_up(self, sentence: str) -> None:
        if self._next is None:
            self._wanted = self.choice
        self.failed.emit(sentence)

    def _remember(self, source: str | None) -> None:
        """Only what has loaded is worth offering again."""
        from pass_core.models.catalog import known_models

        if source and source not in {m.id for m in known_models()}:
            self.recent[:] = [source, *(s for s in self.recent if s != source)][:RECENT]

    async def _find_options(self, model: LanguageModel) -> None:
        def work(control: JobControl) -> list[Path]:
            from pass_core.models.shipped import shipped_lookahead

            return shipped_lookahead(model)

        self.lookahead_options = await self._context.jobs.start("reading look-ahead files", work).result()
        self.lookahead_options_changed.emit(self.lookahead_options)

    async def _default_lookahead(self) -> None:
        model = self._context.model
        if model is None:
            return

        def work(control: JobControl) -> LookaheadEmbeddings:
            from pass_core.models.shipped import default_lookahead

            return default_lookahead(model)

        await self._take_lookahead(work)

    async def _load_lookahead(self, path: str) -> bool:
        model = self._context.model
        if model is None:
            self._context.report_error("Load a model first; look-ahead embeddings belong to one.")
            return False

        def work(control: JobControl) -> LookaheadEmbeddings:
            from pass_core.models.lookahead_hub import load_named
            from pass_core.models.shipped import untrained_lookahead

            if not path:
                return untrained_lookahead(model)
            loaded = load_named(path, model, control.progress, control.cancel)
            loaded.check(model)
            return loaded

        alone = is_hub_name(path) and not self._active
        if alone:
            self._begin(DOWNLOADING)
        try:
            taken = await self._take_lookahead(work)
        finally:
            if alone:
                self._end()
        if taken:
            self.lookahead_chosen.emit(path)
        return taken

    async def _take_lookahead(self, work: Any) -> bool:
        model = self._context.model
        try:
            lookahead = await self._watched(self._context.jobs.start(READING, work))
        except Cancelled:
            return False
        except Exception as error:
            self._context.report_error(plain_sentence(error, "The look-ahead embeddings could not be loaded"), error)
            self._context.set_lookahead(self._context.lookahead)
            return False
        await self._read_bigrams(lookahead)
        if self._context.model is model:
            self._context.set_lookahead(lookahead)
        return True

    async def _read_bigrams_again(self, lookahead: LookaheadEmbeddings) -> None:
        model = self._context.model
        await self._read_bigrams(lookahead, patience=float("inf"))
        if self._context.model is model and self._context.lookahead is lookahead:
            self._context.set_lookahead(lookahead)  # who shows it shows the bigrams, too

    async def _read_bigrams(self, lookahead: LookaheadEmbeddings, patience: float = UNASKED_SECONDS) -> None:
        """Make the model's bigrams ready where this file is drafted with them; without them it drafts, too.

        Given up when it would take longer than `patience` seconds: nobody asked for them, and somebody waits.
        """
        engine = self._context.engine
        if engine is None or engine.bigrams is not None or lookahead.sampler is not None:
            return

        def work(control: JobControl) -> None:
            started = time.monotonic()

            def report(progress: Progress) -> None:
                control.progress(progress)
                settled = time.monotonic() - started >= SETTLING_SECONDS
                if settled and (progress.seconds_left or 0.0) > patience:
                    control.cancel.cancel()

            engine.prepare(lookahead, progress=report, cancel=control.cancel)

        alone = not self._active
        if alone:
            self._begin(BIGRAMS)
        try:
            await self._run(BIGRAMS, work)
        except (Cancelled, JobRefused):
            pass
        except Exception as error:
            self._context.report_error(plain_sentence(error, "The model's bigrams could not be read"), error)
        finally:
            if alone:
                self._end()

    async def _run(self, title: str, work: Any) -> Any:
        if self._next is not None:
            raise Cancelled("replaced by a newer choice")
        # It is refused while another holds the model.
        return await self._watched(self._context.jobs.start(title, work, exclusive=True))

    async def _watched(self, job: Job) -> Any:
        """A job's result; while a load is in progress, its progress is shown and it can be given up."""
        if not self._active or self._job is not None:
            return await job.result()
        self._job = job
        job.progress.connect(self._relay)
        try:
            return await job.result()
        finally:
            self._job = None

    def _relay(self, progress: Progress) -> None:
        self.progress.emit(progress)

    def _set_loading(self, title: str) -> None:
        self._loading = title
        self.loading_changed.emit(title)

    def _forget_model(self) -> Engine | None:
        """Nobody begins anything with the loaded model any more.

        Returns:
            Its engine, for `_free`.
        """
        context = self._context
        old = context.engine
        if old is not None:
            context.set_lookahead(None)
            context.set_engine(None)
        return old

    async def _free(self, engine: Engine | None) -> None:
        """Close an engine in the thread that used it, after the work in progress there."""
        if engine is None:
            return
        context = self._context
        try:
            await context.jobs.start(FREEING, lambda control: engine.close(), exclusive=True).result()
        except JobRefused:  # somebody was quicker and still writes with it, or the window closes
            if not context.engine_thread.leaving:
                context.engine_thread.submit(engine.close)

    def _unexpected(self, error: BaseException) -> None:
        self._context.report_error(plain_sentence(error, "Something went wrong while loading"), error)


def _settle_memory() -> None:
    """In the GUI thread: what a collection finds may be widgets."""
    from pass_core.models.memory import freeze_heap

    freeze_heap()
