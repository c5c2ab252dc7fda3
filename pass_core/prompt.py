"""A prompt as a value: what a person wrote, and whether the model's chat template is applied to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a text starts from. `pass_core.models.prompts.encode` is the only code that turns it into token ids.

    Attributes:
        text: the text to continue, or the user's message of a chat.
        chat: whether the model's chat template is applied to `text`.
        system: the system message of a chat; "" for none.
    """

    text: str
    chat: bool = False
    system: str = ""


class PromptError(ValueError):
    """The prompt cannot be used; the message says why and what to do."""


class ChatTemplateError(PromptError):
    """The model has no chat template, or the template does not take this message."""
