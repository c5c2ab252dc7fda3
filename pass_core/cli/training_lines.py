"""What `train` prints: events, estimates and figures as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pass_core.cli.console import amount, clock, stdout_console
from pass_core.training.recipes import RECIPES

if TYPE_CHECKING:
    from pass_core.engine import Engine
    from pass_core.training.acceptance import Acceptance
    from pass_core.training.events import Evaluated, StateHeadEvaluated, StateHeadStep, StepDone, TrainingEvent
    from pass_core.training.state_figures import StateAcceptance


class TrainingLines:
    """Events as lines of text."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = stdout_console()

    def __call__(self, event: TrainingEvent) -> None:
        from pass_core.training.events import Ending, Evaluated, Finished, Started, StateHeadFinished, StepDone

        if isinstance(event, StateHeadFinished):
            where = f"; best after {event.best_step}. The file is {event.path}" if event.path else ""
            self._print(f"State head: done ({event.ending}) after {event.step} steps{where}.")
            if event.path is None and not event.step and event.ending is not Ending.CANCELLED:
                self._print("There was no time for a step: no state head was written.")
            elif event.path is None and event.ending is not Ending.CANCELLED:
                self._print("No step was better than the untrained head: none was written. Train it longer.")
            if event.figures is not None:
                self.state_result(event.figures)
        elif isinstance(event, Finished):
            where = f" The file is {event.path}." if event.path else ""
            self._print(f"Done ({event.ending}) after {event.step} steps; best after {event.best_step}.{where}")
            if event.acceptance is not None:
                self.result(event.acceptance)
        elif self.quiet:
            return
        elif isinstance(event, Started):
            told = event.estimate
            self._print(
                f"{told.trainable:,} parameters learn from {event.train_sequences} sequences; "
                f"{event.held_out_sequences} are held out. Memory: about {amount(told.bytes_working, 'B')} for a step "
                f"and {amount(told.bytes_kept, 'B')} of kept prefixes. Time: about {clock(told.seconds)} "
                f"({told.steps} steps of {told.seconds_per_step:.1f} s)."
            )
        elif isinstance(event, StepDone):
            coherent = f"  coherent {event.coherent:.3f}" if event.coherent else ""
            speed = f"{event.rows / event.seconds:.0f} rows/s"
            self._step(event, "", f"{coherent}  accepted {event.accepted:.2f}  {speed}")
        elif isinstance(event, Evaluated):
            self._held_out(event, "", event.acceptance, f"by position {_figures(event.acceptance.by_position)}")
        else:
            self._state_head(event)

    def _state_head(self, event: TrainingEvent) -> None:
        from pass_core.training.events import StateHeadEvaluated, StateHeadStarted, StateHeadStep

        if isinstance(event, StateHeadStarted):
            where = f"Resumed after {event.step} steps. " if event.step else ""
            self._print(
                f"State head: {where}{event.trainable:,} parameters learn from {event.train_sequences} sequences; "
                f"{event.chosen_by} held-out texts choose the best step, {event.reported} others are reported. "
                f"Time: about {clock(event.seconds)} ({event.steps} steps)."
            )
        elif isinstance(event, StateHeadStep):
            speed = f"{event.places / event.seconds:.0f} places/s"
            self._step(event, "state head, ", f"  match {_figures(event.matches)}  {speed}")
        elif isinstance(event, StateHeadEvaluated):
            match = f"match by position {_figures(event.figures.match)}"
            self._held_out(event, "state head, ", event.figures.chain, match)

    def _step(self, event: StepDone | StateHeadStep, what: str, figures: str) -> None:
        """Every tenth step, the first and the last."""
        if event.step % 10 == 0 or event.step in (1, event.steps):
            self._print(
                f"{what}step {event.step}/{event.steps}  loss {event.loss:.3f}  divergence {event.divergence:.3f}"
                f"{figures}  {clock(event.seconds_left)} left"
            )

    def _held_out(self, event: Evaluated | StateHeadEvaluated, what: str, chain: Acceptance, positions: str) -> None:
        mark = " (best)" if event.best else ""
        self._print(
            f"{what}held out after {event.step}: {chain.accepted_per_iteration:.3f} drafts accepted per "
            f"chain{mark}; {positions}"
        )

    def recipes(self, engine: Engine, folder: Path, memory: int) -> None:
        """What each recipe takes with this model on this machine."""
        from pass_core.training.preview import preview
        from pass_core.training.selfwritten import SelfPlan, own_text, unwritten

        model = engine.model
        for name, recipe in RECIPES.items():
            config = recipe.config
            plan = SelfPlan(recipe.sequences, recipe.held_out, config.length)
            missing = unwritten(model, plan, own_text(model, plan, folder))
            told = preview(
                engine, config, sequences=recipe.sequences, memory=memory, to_write=missing, state=recipe.state
            )
            steps = told.seconds - told.writing_seconds - told.bigrams_seconds - told.state_seconds
            self._print(
                f"{name}: {recipe.summary}. {recipe.rows:,} rows in {config.steps} steps on {recipe.sequences:,} "
                f"texts; "
                f"about {clock(told.seconds)} (text {clock(told.writing_seconds)}, bigrams "
                f"{clock(told.bigrams_seconds)}, steps and evaluations {clock(steps)}, state head "
                f"{clock(told.state_seconds)}), "
                f"memory {amount(told.bytes_working + told.bytes_kept, 'B')}"
            )

    def result(self, acceptance: Acceptance, title: str = "At evenly spread places") -> None:
        """The figures of a finished run or an evaluation."""
        self._print(f"{title} of held-out text ({acceptance.contexts} chains):")
        kinds = ", ".join(f"{name} {value:.2f}" for name, value in acceptance.domains.items())
        self._print(f"  drafts accepted per chain: {acceptance.accepted_per_iteration:.3f} ({kinds})")
        self._print(f"  match by position:         {_figures(acceptance.by_position, 3)}")
        self._print(f"  accepted by position:      {_figures(acceptance.accepted, 3)}")

    def state_result(self, figures: StateAcceptance, title: str = "At evenly spread places") -> None:
        """The figures of a state head."""
        self.result(figures.chain, f"State head, no look-ahead rows. {title}")
        for siblings, matches in enumerate(figures.siblings, start=1):
            self._print(f"  one of {siblings} best is right:   {_figures(matches, 3)}")

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False)


def _figures(values: Sequence[float], places: int = 2) -> str:
    return " ".join(f"{value:.{places}f}" for value in values)
