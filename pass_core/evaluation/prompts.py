"""The prompts that measurements run on: the built-in sets prose, code and chat, or a user's file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pass_core import prompt as value
from pass_core.models.catalog import resource_folder
from pass_core.text import NotText, decode

if TYPE_CHECKING:
    from pass_core.models.language_model import LanguageModel

BUILT_IN = ("prose", "code", "chat")


class PromptFileError(ValueError):
    """A prompt file cannot be used; the message says why and how it should look."""


@dataclass(frozen=True, slots=True)
class BenchmarkPrompt:
    """One prompt to measure with.

    Attributes:
        set: name of the set it belongs to ("prose", "code", "chat", or a file's name).
        title: short name, unique within the set.
        text: what the model continues, or the user's turn of a chat.
        chat: whether the model's chat template is applied.
    """

    set: str
    title: str
    text: str
    chat: bool = False


def built_in(name: str) -> tuple[BenchmarkPrompt, ...]:
    """A built-in set.

    Raises:
        PromptFileError: there is no such set.
    """
    if name not in BUILT_IN:
        raise PromptFileError(f"There is no prompt set “{name}”. Choose from {', '.join(BUILT_IN)}, or give a file.")
    text = (resource_folder("prompts") / f"{name}.toml").read_text(encoding="utf-8")
    return _from_toml(name, text, f"{name}.toml")


def read_prompts(path: str | Path) -> tuple[BenchmarkPrompt, ...]:
    """A user's prompts: .toml (`[[prompt]]` with `text`, optional `title` and `chat`), .jsonl (the same keys, one
    object a line) or any other text file (prompts separated by lines of three or more hyphens, else one a line).

    Raises:
        PromptFileError: the file is missing, unreadable, or holds no prompt.
    """
    path = Path(path).expanduser()
    try:
        text = decode(path.read_bytes())
    except NotText as error:
        raise PromptFileError(f"{path.name} is no text: {error}. Save the prompts as UTF-8.") from None
    except OSError as error:
        raise PromptFileError(f"{path} cannot be read: {error.strerror or error}.") from error
    if path.suffix == ".toml":
        prompts = _from_toml(path.stem, text, path.name)
    elif path.suffix in (".jsonl", ".ndjson"):
        prompts = _from_json_lines(path.stem, text, path.name)
    else:
        prompts = _named(path.stem, ({"text": t} for t in _split(text)))
    if not prompts:
        raise PromptFileError(f"{path.name} holds no prompt.")
    return prompts


def prompt_ids(prompt: BenchmarkPrompt, model: LanguageModel) -> list[int]:
    """Token ids of a prompt; the chat template is applied to a chat prompt where the model has one."""
    from pass_core.models.prompts import encode, has_chat_template

    return encode(model, value.Prompt(prompt.text, chat=prompt.chat and has_chat_template(model)))


def _from_toml(name: str, text: str, file: str) -> tuple[BenchmarkPrompt, ...]:
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PromptFileError(f"{file} is not valid TOML: {error}.") from error
    entries = raw.get("prompt", [])
    if not isinstance(entries, list):
        raise PromptFileError(f"{file}: prompts are written as [[prompt]] tables with a “text” each.")
    return _named(name, cast("list[Mapping[str, Any]]", entries))


def _from_json_lines(name: str, text: str, file: str) -> tuple[BenchmarkPrompt, ...]:
    entries: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            raw: object = json.loads(line)
        except ValueError as error:
            raise PromptFileError(f"{file}, line {number}: not valid JSON ({error}).") from error
        if not isinstance(raw, dict):
            raise PromptFileError(f"{file}, line {number}: each line is an object with a “text”.")
        entry = cast(dict[str, Any], raw)
        entries.append(entry if "text" in entry else {**entry, "text": entry.get("prompt", "")})
    return _named(name, entries)


def _split(text: str) -> list[str]:
    """Parts between lines of hyphens, or lines when there are no such lines."""
    parts: list[list[str]] = [[]]
    for line in text.splitlines():
        if len(line.strip()) >= 3 and not line.strip().strip("-"):
            parts.append([])
        else:
            parts[-1].append(line)
    if len(parts) == 1:
        return parts[0]
    return ["\n".join(part).strip("\n") for part in parts]


def _named(name: str, entries: Iterable[Mapping[str, Any]]) -> tuple[BenchmarkPrompt, ...]:
    prompts: list[BenchmarkPrompt] = []
    seen: set[str] = set()
    for entry in entries:
        text = str(entry.get("text", ""))
        if not text.strip():
            continue
        title = str(entry.get("title") or _short(text))
        if title in seen:
            title = f"{title} ({len(prompts) + 1})"
        seen.add(title)
        prompts.append(BenchmarkPrompt(name, title, text, bool(entry.get("chat", name == "chat"))))
    return tuple(prompts)


def _short(text: str) -> str:
    """The first words of a text, as its title."""
    words = " ".join(text.split())
    return words if len(words) <= 48 else words[:47].rsplit(" ", 1)[0] + "…"
