"""Names of look-ahead files on the Hugging Face hub: `hf:user/name` or `hf:user/name/file.safetensors`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pass_core.models.errors import ModelNotFound

PREFIX = "hf:"
SUFFIX = ".safetensors"
_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository, and the file in it ("": the only look-ahead file there)."""

    repo: str
    file: str = ""

    def __str__(self) -> str:
        return PREFIX + "/".join(part for part in (self.repo, self.file) if part)


def is_hub_name(text: str) -> bool:
    """Whether a choice of look-ahead embeddings names a file on the hub, rightly written or not."""
    return text.startswith(PREFIX)


def parse_hub_name(text: str) -> HubName:
    """Read `hf:user/name` or `hf:user/name/file.safetensors`.

    Raises:
        ModelNotFound: it is written in another way.
    """
    user, _, rest = text.removeprefix(PREFIX).strip().partition("/")
    name, _, file = rest.partition("/")
    good = _NAME.fullmatch(f"{user}/{name}") and not {".", ".."} & {user, name, *file.split("/")}
    if not good or file.startswith("/") or (file and not file.endswith(SUFFIX)):
        raise ModelNotFound(
            f"“{text[:200]}” is no name of a look-ahead file. Write hf:user/name, or hf:user/name/file{SUFFIX}."
        )
    return HubName(f"{user}/{name}", file)
