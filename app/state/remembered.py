"""The last choices, between the preferences and the window; anything damaged counts as never chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.state.context import AppContext
from app.state.loader import ModelChoice
from app.state.setup import GenerationSetup
from pass_core.models.errors import ModelError
from pass_core.models.hub_names import is_hub_name, parse_hub_name
from pass_core.settings import DecodingSettings, SettingsError


def save_setup(context: AppContext) -> None:
    """Remember prompt, seed and settings."""
    from pass_core.records.runs import settings_to_dict, stop_to_dict

    setup = context.setup.value
    context.preferences.set("generate/prompt", setup.prompt_text)
    context.preferences.set("generate/chat", setup.chat)
    context.preferences.set("generate/seed", setup.seed)
    context.preferences.set("generate/settings", settings_to_dict(setup.settings))
    context.preferences.set("generate/stop", stop_to_dict(setup.stop))


def load_setup(context: AppContext, default: GenerationSetup) -> GenerationSetup:
    """The remembered choices, or the defaults where there are none."""
    from pass_core.records.runs import RecordError, settings_from_dict, stop_from_dict

    p = context.preferences
    settings, stop = default.settings, default.stop
    try:
        if raw := p.get("generate/settings", {}):
            found = settings_from_dict(raw)
            settings = found if isinstance(found, DecodingSettings) else replace(settings, sampling=found.sampling)
        if raw := p.get("generate/stop", {}):
            stop = stop_from_dict(raw)
    except (RecordError, SettingsError):
        settings, stop = default.settings, default.stop
    return GenerationSetup(
        prompt_text=p.get("generate/prompt", default.prompt_text) or default.prompt_text,
        chat=p.get("generate/chat", default.chat),
        seed=p.get("generate/seed", default.seed),
        settings=settings,
        stop=stop,
    )


def save_choice(context: AppContext, choice: ModelChoice, recent: list[str]) -> None:
    """Remember the model that was loaded."""
    context.preferences.set("model/source", choice.source or "")
    context.preferences.set("model/device", choice.device)
    context.preferences.set("model/dtype", choice.dtype)
    context.preferences.set("model/quantize", choice.quantize)
    context.preferences.set("model/recent", recent)


def save_lookahead(context: AppContext, path: str) -> None:
    """Remember which look-ahead file was chosen for the loaded model."""
    if context.model is not None:
        context.preferences.set(f"lookahead/{context.model.source}".replace("\\", "/"), path)


def load_lookahead_choice(context: AppContext, choice: ModelChoice) -> str | None:
    """The file that was chosen for this model and is still there; None for the shipped one."""
    from pass_core.models.catalog import default_model

    path = context.preferences.get(f"lookahead/{choice.source or default_model().id}".replace("\\", "/"), "")
    return path if path and _is_there(path) else None


def _is_there(path: str) -> bool:
    """Whether a remembered file can be loaded without the network."""
    if not is_hub_name(path):
        return Path(path).is_file()
    from pass_core.models.lookahead_hub import cached_lookahead

    try:
        return cached_lookahead(parse_hub_name(path)) is not None
    except ModelError:
        return False


def load_choice(context: AppContext) -> ModelChoice:
    """The remembered model, or the default one."""
    p = context.preferences
    return ModelChoice(
        p.get("model/source", "") or None,
        p.get("model/device", "auto"),
        p.get("model/dtype", "auto"),
        p.get("model/quantize", "none"),
    )
