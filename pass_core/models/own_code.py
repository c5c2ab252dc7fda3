"""Python code in a model's folder: what needs it, and how it is refused.

Nothing of it runs unless a person typed the model's name on the command line, once for each start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pass_core.models.errors import ModelUnsupported

SWITCH = "--trust-remote-code"


@dataclass(frozen=True, slots=True)
class OwnCode:
    """What of a folder works only with code that the folder brings along."""

    model: bool
    tokenizer: bool

    def __bool__(self) -> bool:
        return self.model or self.tokenizer


def needs_own_code(config: Mapping[str, Any]) -> bool:
    """Whether transformers has no classes for a config.json with this content, and it names some of its own."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return bool(config.get("auto_map")) and config.get("model_type") not in CONFIG_MAPPING_NAMES


def own_code_of(folder: Path) -> OwnCode:
    """What of this folder needs code of its own.

    Raises:
        ModelUnsupported: the code lies in another place.
    """
    config, tokenizer = _fields(folder / "config.json"), _fields(folder / "tokenizer_config.json")
    found = OwnCode(
        needs_own_code(config), bool(tokenizer.get("auto_map")) and not (folder / "tokenizer.json").is_file()
    )
    named = f"{config.get('auto_map') if found.model else ''}{tokenizer.get('auto_map') if found else ''}"
    if "--" in named:  # transformers' mark of another repository
        raise ModelUnsupported(
            f"The model in {folder} wants Python code from another place than its folder, which this program never "
            "runs. Choose a model whose architecture transformers knows itself."
        )
    return found


def refusal(folder: Path) -> ModelUnsupported:
    """Why such a model is not loaded."""
    return ModelUnsupported(
        f"The model in {folder} runs only with Python code that its folder brings along. Such code can do anything "
        "that you may do on this machine, so the program does not run it. Choose a model whose architecture "
        f"transformers knows itself. If you have read the code: “python -m pass_core generate --model {folder} "
        f"{SWITCH}” runs it after you have typed the model's name; the window never does."
    )


def _fields(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is none: whoever needs it says so."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
