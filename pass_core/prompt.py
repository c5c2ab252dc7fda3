"""A prompt as a value: what a person wrote, and whether the model's chat template is applied to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who says something in a chat."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    text: str


class PromptError(ValueError):
    """The prompt cannot be used; the message says why and what to do."""


class ChatTemplateError(PromptError):
    """The model has no chat template, or the template does not take this message."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a text starts from. `pass_core.models.prompts.encode` is the only code that turns it into token ids.

    Attributes:
        text: the text to continue, or the user's last message of a chat.
        chat: whether the model's chat template is applied to `text`.
        system: the system message of a chat; "" for none.
        before: the turns of a chat before `text`, oldest first.
        answer: the beginning of the answer to `text`, which the model continues; "" where it has yet to begin.
    """

    text: str
    chat: bool = False
    system: str = ""
    before: tuple[Message, ...] = ()
    answer: str = ""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole chat: system message, earlier turns, the user's last message, the begun answer."""
        system = (Message(Role.SYSTEM, self.system),) if self.system else ()
        answer = (Message(Role.ASSISTANT, self.answer),) if self.answer else ()
        return (*system, *self.before, Message(Role.USER, self.text), *answer)

    @classmethod
    def of_messages(cls, messages: Sequence[Message]) -> Prompt:
        """The chat that `messages` are; the inverse of its attribute of that name.

        Raises:
            PromptError: there is no user's message at the end, or none before a begun answer.
        """
        turns = list(messages)
        system = turns.pop(0).text if turns and turns[0].role is Role.SYSTEM else ""
        answer = turns.pop().text if turns and turns[-1].role is Role.ASSISTANT else ""
        if not turns or turns[-1].role is not Role.USER:
            raise PromptError("A chat needs a user's message at its end, or before the answer that is to go on.")
        return cls(turns.pop().text, chat=True, system=system, before=tuple(turns), answer=answer)
