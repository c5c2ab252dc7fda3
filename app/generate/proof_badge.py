"""The hash of the newest text, and the button that proves it: plain decoding writes the text again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QPushButton, QWidget

from app.engine.jobs import Job, JobControl, JobRefused
from app.engine.run import Run
from app.state.context import AppContext
from app.state.errors import plain_sentence
from app.widgets.basic import label, row, set_tone
from app.widgets.text_format import seconds_text, visible
from pass_core.decoding.events import TokenEvent
from pass_core.prompt import Prompt, PromptError
from pass_core.records.text_hash import text_hash
from pass_core.settings import Verification

if TYPE_CHECKING:  # torch takes seconds to import, and the window is there before it
    from pass_core.engine import Engine
    from pass_core.evaluation.same_text import TextProof

WHAT = (
    "A hash of the text and of all that decides it: model, prompt, seed, stop conditions,\n"
    "temperature, top-k, top-p and min-p.\n"
    "Every strategy, k and look-ahead file gives the same one."
)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A text with the engine that wrote it."""

    run: Run
    engine: Engine
    prompt: Prompt
    hash: str


class ProofBadge(QWidget):
    """Hidden until a text is finished.

    Attributes:
        hash: the hash, and what came of the proof.
        prove: starts the proof.
        proof: of the text that is shown, None until it was made.
    """

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self._shown: _Finished | None = None
        self._job: Job | None = None
        self.proof: TextProof | None = None
        self.hash = label("", "chip", selectable=True)
        self.hash.setAccessibleName("Hash of the text")
        self.prove = QPushButton("Prove it")
        self.prove.setProperty("role", "quiet")
        self.setLayout(row(self.hash, self.prove, spacing=4))
        self.prove.clicked.connect(self._start)
        policy = self.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # the text above must not move when it shows
        self.setSizePolicy(policy)
        context.busy_changed.connect(self._refresh)
        context.model_changed.connect(self._refresh)
        self.hide()

    def follow(self, run: Run) -> None:
        """A run began: its hash shows when it has ended."""
        self._shown = self.proof = None
        self.hide()
        run.finished.connect(partial(self._finished, run))

    # -- one text ------------------------------------------------------------------------------------------------------

    def _finished(self, run: Run) -> None:
        engine, request = self._context.engine, run.request
        if engine is None or run.error is not None or not run.totals.new_tokens:
            return
        prompt = request.source
        try:
            ids = engine.encode(prompt)
        except PromptError:
            return
        hash = text_hash(engine.model.fingerprint, ids, run.events, seed=request.seed, stop=request.stop)
        self._shown = _Finished(run, engine, prompt, hash)
        self._show(f"text {hash}", "", WHAT)
        self._refresh()
        self.show()

    def _start(self) -> None:
        shown = self._shown
        if shown is None:
            return
        request, steps = shown.run.request, tuple(shown.run.events)

        def work(control: JobControl) -> TextProof:
            from pass_core.evaluation.same_text import prove_same_text

            return prove_same_text(
                shown.engine,
                shown.prompt,
                steps,
                seed=request.seed,
                stop=request.stop,
                progress=control.progress,
                cancel=control.cancel,
            )

        try:
            job = self._context.jobs.start("a proof of the same text", work, exclusive=True)
        except JobRefused as refused:
            self._context.report_error(str(refused))
            return
        self._job = job
        job.progress.connect(lambda p: self._show(f"plain decoding: {p.done:.0f} of {p.total:.0f} tokens", "", WHAT))
        job.succeeded.connect(partial(self._proved, shown))
        job.cancelled.connect(partial(self._given_up, shown))
        job.failed.connect(partial(self._failed, shown))
        job.done.connect(self._ended)
        self._refresh()

    def _proved(self, shown: _Finished, proof: TextProof) -> None:
        if shown is not self._shown:
            return
        self.proof = proof
        if proof.same:
            self._show(f"same text, {proof.hash}", "good", f"{_cost(shown.run, proof)}\n{WHAT}")
        else:
            self._show(f"differs at token {proof.tokens + 1}", "bad", difference_text(proof))

    def _given_up(self, shown: _Finished) -> None:
        if shown is self._shown:
            self._show(f"text {shown.hash}", "", WHAT)

    def _failed(self, shown: _Finished, error: BaseException) -> None:
        self._given_up(shown)
        self._context.report_error(plain_sentence(error, "The text could not be proved"), error)

    def _ended(self) -> None:
        self._job = None
        self._refresh()

    # -- look ----------------------------------------------------------------------------------------------------------

    def _show(self, text: str, tone: str, tip: str) -> None:
        self.hash.setText(text)
        self.hash.setToolTip(tip)
        set_tone(self.hash, tone)

    def _refresh(self, *_: object) -> None:
        why = self._obstacle()
        self.prove.setVisible(self.proof is None)
        self.prove.setEnabled(self._shown is not None and not why)
        self.prove.setToolTip(why or "Write the same text again by plain decoding, and compare token for token")

    def _obstacle(self) -> str:
        shown = self._shown
        if shown is None:
            return ""
        if shown.engine is not self._context.engine:
            return "The model that wrote this text is not loaded any more."
        if any(s.drafts and s.settings.verification is Verification.REJECTION for s in shown.run.events):
            return (
                "Written under the rejection rule: it keeps the distribution of texts, not the text. Choose the "
                "coupled rule for the same text under every strategy."
            )
        busy = self._context.busy_with
        return f"The model is busy with {busy}." if busy else ""


def _cost(run: Run, proof: TextProof) -> str:
    s = run.summary
    return (
        f"Plain decoding wrote the same {proof.tokens} tokens in {proof.calls} forward passes and "
        f"{seconds_text(proof.seconds)}; this run took {s.calls} and {seconds_text(s.decode_seconds)} (one run each)."
    )


def difference_text(proof: TextProof) -> str:
    """The first difference in words."""
    return (
        f"The first {proof.tokens} tokens are the same. Then this run has {_named(proof.given)}, and plain decoding "
        f"{_named(proof.plain)}. Please report it with the run's JSON: under the coupled rule this must not happen on "
        "one machine."
    )


def _named(token: TokenEvent | None) -> str:
    return "nothing more" if token is None else f"“{visible(token.text)}” (p {token.p_target:.4f})"
