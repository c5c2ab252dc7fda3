"""A chat as the page holds it: questions, and for each the answers that were written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.engine.run import Run
from pass_core.decoding.events import StepEvent
from pass_core.prompt import Message, Role


@dataclass(slots=True, eq=False)
class Answer:
    """One answer; a continued one was written by several runs.

    Attributes:
        begun: its beginning that no run of this session wrote.
        runs: the runs that wrote the rest, in order.
    """

    begun: str = ""
    runs: list[Run] = field(default_factory=list[Run])

    @property
    def text(self) -> str:
        """All of it."""
        return self.begun + "".join(run.text for run in self.runs)

    def tokens_before(self, run: Run) -> int:
        """How many tokens earlier runs wrote."""
        place = self.runs.index(run)
        return sum(r.totals.new_tokens for r in self.runs[:place])

    def run_of(self, index: int) -> tuple[Run, int] | None:
        """The run that wrote the token of this index of the whole answer, and its index there."""
        for run in self.runs:
            if index < run.totals.new_tokens:
                return run, index
            index -= run.totals.new_tokens
        return None


@dataclass(slots=True, eq=False)
class Exchange:
    """A question with its answers; Regenerate adds one.

    Attributes:
        shown: the answer that counts, by its place.
    """

    question: str
    answers: list[Answer] = field(default_factory=list[Answer])
    shown: int = 0

    @property
    def answer(self) -> Answer | None:
        """The answer that counts."""
        return self.answers[self.shown] if self.answers else None

    def add(self, answer: Answer) -> None:
        """One more answer, which counts from now on."""
        self.answers.append(answer)
        self.shown = len(self.answers) - 1


@dataclass(slots=True, eq=False)
class Conversation:
    """The whole chat.

    Attributes:
        system: the system message, "" for the template's own.
    """

    system: str = ""
    exchanges: list[Exchange] = field(default_factory=list[Exchange])

    def messages(self, exchange: Exchange | None = None, begun: str = "") -> tuple[Message, ...]:
        """The chat up to the question of `exchange` and the beginning of its answer (None: all of it)."""
        out = [Message(Role.SYSTEM, self.system)] if self.system else []
        for each in self.exchanges:
            if each.question:
                out.append(Message(Role.USER, each.question))
            if each is exchange:
                return (*out, Message(Role.ASSISTANT, begun)) if begun else tuple(out)
            if (answer := each.answer) is not None and answer.text:
                out.append(Message(Role.ASSISTANT, answer.text))
        return tuple(out)

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Conversation:
        """The chat of messages, without runs."""
        chat = cls()
        for message in messages:
            if message.role is Role.SYSTEM:
                chat.system = message.text
            elif message.role is Role.USER or not chat.exchanges:
                chat.exchanges.append(Exchange(message.text if message.role is Role.USER else ""))
            if message.role is Role.ASSISTANT:
                chat.exchanges[-1].add(Answer(message.text))
        return chat


def shifted(steps: Sequence[StepEvent], tokens: int) -> list[StepEvent]:
    """Steps whose tokens are numbered on from `tokens`."""
    if not tokens:
        return list(steps)
    return [replace(s, tokens=tuple(replace(t, index=t.index + tokens) for t in s.tokens)) for s in steps]
