"""What the automatic weights became on this machine, for lists of models; imports neither torch nor a model."""

from __future__ import annotations

import json
from pathlib import Path

from pass_core.files import cache_folder
from pass_core.models.processor import processor_key


def choices_folder() -> Path:
    """Where `pass_core.runtime.choice` keeps what it measured."""
    return cache_folder() / "weights"


def kept_reasons() -> dict[str, str]:
    """What was chosen last for this processor and why, by the model's source."""
    reasons: dict[str, tuple[float, str]] = {}
    for path in choices_folder().glob("*.json"):
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            source, reason, when = str(raw["source"]), str(raw["reason"]), path.stat().st_mtime
            here = raw["processor"] == processor_key()
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if here and when >= reasons.get(source, (0.0, ""))[0]:
            reasons[source] = (when, reason)
    return {source: reason for source, (_, reason) in reasons.items()}
