"""The fingerprint of a model's files, for models whose weights do not all come as they are stored into one memory."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import safe_open

from pass_core.models.language_model import fingerprint_of
from pass_core.models.weights import skeleton


def stored_fingerprint(folder: Path, config: Any) -> str | None:
    """What `fingerprint` would say of the model loaded from `folder`, reading one tensor at a time.

    None where its safetensors files do not hold every parameter under its name and shape.
    """
    model = skeleton(config)
    prefix = f"{model.base_model_prefix}."
    with ExitStack() as opened:
        files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            if not path.name.startswith("consolidated"):
                file: Any = opened.enter_context(safe_open(str(path), framework="pt"))
                files |= dict.fromkeys(file.keys(), file)
        names: dict[str, str] = {}
        for name, parameter in model.named_parameters():
            found = next((n for n in (name, name.removeprefix(prefix), prefix + name) if n in files), None)
            if found is None or files[found].get_slice(found).get_shape() != list(parameter.shape):
                return None
            names[name] = found
        stored = ((name, files[names[name]].get_tensor(names[name])) for name in sorted(names))
        return fingerprint_of(config, stored)
