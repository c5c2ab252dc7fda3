"""What one generation carries from step to step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from pass_core.decoding.repetition_bonus import TextMemory
from pass_core.decoding.state_proposer import StateProposer
from pass_core.decoding.tree import DraftTree, Emitted
from pass_core.kernels.device_steps import DeviceSteps
from pass_core.kernels.interface import DraftHead, Kernels
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.runtime.base import Cache, Runtime
from pass_core.runtime.rows import IntArray, Rows
from pass_core.sampling.rules import VerificationRule
from pass_core.settings import DecodingSettings


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What a strategy's step produced; the loop turns it into a StepEvent."""

    emitted: list[Emitted]
    tree: DraftTree
    reason: str = ""


@dataclass
class DecodeState:
    """The running generation.

    Attributes:
        tokens: prompt and emitted tokens; the last one is the root, whose keys and values are not cached yet.
        remaining: how many tokens may still be emitted (length and context limits together).
        lookahead: the embeddings in force, parts switched off already left out.
        head: scores drafts by the token before them: the file's sampler head, else the model's own bigrams.
        state_head: drafts without look-ahead rows; None where the file has no state head.
        predicting: the state [hidden] after the final norm of the row that predicted the token at a position, and that
            position; None where it is not known.
        memory: of the text, for the repetition bonus; None without it.
        device: takes whole steps on the model's device; None where there is no such way.
    """

    runtime: Runtime
    kernels: Kernels
    cache: Cache
    tokens: list[int]
    seed: int
    context_length: int
    lookahead: LookaheadEmbeddings | None = None
    head: DraftHead | None = None
    state_head: StateProposer | None = None
    predicting: tuple[int, torch.Tensor] | None = None
    memory: TextMemory | None = None
    device: DeviceSteps | None = None
    remaining: int = 0
    calls: int = 0
    rows: list[int] = field(default_factory=list[int])
    lookahead_rows: int = 0
    forward_seconds: float = 0.0
    clock: Callable[[], float] = time.perf_counter

    @property
    def position(self) -> int:
        """Absolute position of the next token to emit."""
        return len(self.tokens)

    @property
    def recent(self) -> IntArray | None:
        """The last tokens, for drafts that repeat them."""
        return None if self.memory is None else self.memory.recent(self.tokens)

    @property
    def last_two(self) -> tuple[int, int]:
        """The token before the root (-1: none), and the root."""
        return self.tokens[-2] if len(self.tokens) > 1 else -1, self.tokens[-1]

    @property
    def root_state(self) -> torch.Tensor | None:
        """The state [hidden] that predicted the root; None where it is not known."""
        known = self.predicting
        return known[1] if known is not None and known[0] == len(self.tokens) - 1 else None

    def begin_step(self) -> None:
        self.calls, self.rows, self.lookahead_rows, self.forward_seconds = 0, [], 0, 0.0

    def call(self, rows: Rows) -> torch.Tensor:
        """One counted and timed forward pass; returns hidden states [n, hidden]."""
        started = self.clock()
        hidden = self.runtime.forward(self.cache, rows)
        self.runtime.synchronize()
        self.count(rows, self.clock() - started)
        return hidden

    def count(self, rows: Rows, seconds: float) -> None:
        """Take in a forward pass that took so long."""
        self.forward_seconds += seconds
        self.calls += 1
        self.rows.append(rows.count)
        self.lookahead_rows += int((rows.lookahead >= 0).sum())

    def lookahead_steps(self, wanted: int, depth: int = 0) -> int:
        """How many look-ahead rows fit below a row at `depth` under the root: at most L, inside the context."""
        if self.lookahead is None:
            return 0
        room = self.context_length - (len(self.tokens) + depth)
        return max(0, min(wanted, self.lookahead.count, room))


class Stepper:
    """A strategy: each step emits at least one token, from one or two forward passes, exactly as the model would."""

    def step(self, state: DecodeState, settings: DecodingSettings, rule: VerificationRule) -> StepOutcome:
        raise NotImplementedError

    def forget(self) -> None:
        """Drop drafts made under other circumstances (another strategy ran, or the embeddings changed)."""

    def learn(self, seconds: float) -> None:
        """Take in how long the last step took, its description included."""
