"""What is said of a run that is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.widgets.text_format import count_of

if TYPE_CHECKING:
    from pass_core.training.acceptance import Acceptance
    from pass_core.training.events import Finished


def told(finished: Finished, untrained: Acceptance | None) -> tuple[str, str]:
    """Title and text of a run that is over."""
    got = finished.acceptance
    figures = ""
    if got is not None:
        figures = f"{got.accepted_per_iteration:.2f} drafts accepted per iteration on held-out text"
        if untrained is not None:
            figures += f", {untrained.accepted_per_iteration:.2f} untrained"
    if cancelled(finished):
        file = f" The best so far is {finished.path}." if finished.path is not None else ""
        return (
            f"Stopped after {count_of(finished.step, 'step')}",
            f"The checkpoint is kept: {finished.checkpoint}. Resume continues from it.{file}",
        )
    return f"Trained for {finished.step} steps ({finished.ending})", f"{figures}. The file: {finished.path}"


def cancelled(finished: Finished) -> bool:
    """Whether somebody stopped it, so that it can be resumed."""
    from pass_core.training.events import Ending

    return finished.ending is Ending.CANCELLED
