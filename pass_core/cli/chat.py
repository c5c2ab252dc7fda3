"""A whole chat on the command line: a JSON list of messages, in a file or as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pass_core.prompt import Message, Prompt, PromptError, Role
from pass_core.text import NotText, decode, well_formed

MESSAGES_HELP = (
    "A whole chat: a JSON list of {“role”: system, user or assistant, “content”: text}, or a file with one. An answer "
    "at its end is continued."
)
HOW = "Write [{“role”: “user”, “content”: “Hello”}], or name a file that holds it."


def chat_of(given: str) -> Prompt:
    """The chat of --messages.

    Raises:
        PromptError: it is no list of messages, or cannot be answered; or there is no such file.
    """
    text = given
    if not given.lstrip().startswith("["):
        try:
            text = decode(Path(given).expanduser().read_bytes())
        except (OSError, ValueError, NotText) as error:
            reason = getattr(error, "strerror", None) or error
            raise PromptError(f"The messages “{given[:80]}” cannot be read ({reason}). {HOW}") from error
    try:
        raw: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"The messages are no JSON ({error}). {HOW}") from error
    if not isinstance(raw, list) or not raw:
        raise PromptError(f"The messages are no list. {HOW}")
    return Prompt.of_messages([_message(item, n) for n, item in enumerate(cast(list[object], raw), 1)])


def as_json(messages: Sequence[Message]) -> str:
    """What `chat_of` reads."""
    return json.dumps([{"role": m.role.value, "content": m.text} for m in messages], ensure_ascii=False)


def _message(item: object, number: int) -> Message:
    fields = cast(dict[object, object], item) if isinstance(item, dict) else {}
    role, content = fields.get("role"), fields.get("content")
    if role not in set(Role) or not isinstance(content, str) or not content:
        raise PromptError(f"Message {number} needs a role (system, user or assistant) and a content. {HOW}")
    return Message(Role(cast(str, role)), well_formed(content))
