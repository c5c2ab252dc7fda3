"""The interrupted run, remembered so that it can be resumed even after the program was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.state.context import AppContext
from app.training.plan import TrainingPlan

if TYPE_CHECKING:
    from pass_core.training.acceptance import Acceptance

UNFINISHED = "train/unfinished"


class UnfinishedRun:
    """At most one; it belongs to the model that it was trained on."""

    def __init__(self, context: AppContext) -> None:
        self._context = context

    def remember(self, plan: TrainingPlan, untrained: Acceptance | None) -> None:
        """Written to the disk now."""
        model = self._context.model
        self._set(
            {
                "fingerprint": model.fingerprint if model is not None else "",
                "plan": plan.to_json(),
                "untrained": untrained.to_json() if untrained is not None else "",
            }
        )

    def forget(self) -> None:
        """The run has ended."""
        self._set({})

    def plan(self) -> TrainingPlan | None:
        """What the loaded model was being trained with, if the checkpoint is still there."""
        kept, model = self._kept(), self._context.model
        if model is None or kept.get("fingerprint") != model.fingerprint:
            return None
        plan = TrainingPlan.from_json(kept.get("plan", ""))
        return plan if plan is not None and plan.checkpoint.is_file() else None

    def untrained(self) -> Acceptance | None:
        """What was measured before its first step."""
        from pass_core.training.acceptance import Acceptance

        text = self._kept().get("untrained", "")
        try:
            return Acceptance.from_json(text) if text else None
        except (ValueError, TypeError, KeyError):
            return None

    def _kept(self) -> dict[str, str]:
        return {key: str(value) for key, value in self._context.preferences.get(UNFINISHED, {}).items()}

    def _set(self, value: dict[str, str]) -> None:
        self._context.preferences.set(UNFINISHED, value)
        self._context.preferences.save()
