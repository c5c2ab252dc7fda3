"""What a user may set: validated, immutable, replaceable between two steps of a running generation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

MAX_TOP_K = 200
MAX_TEMPERATURE = 2.0
MAX_ROWS = 256  # of one forward pass
LOOKUP_TOKENS = 10  # that transformers' prompt lookup copies at a time, as in its documentation
MAX_NEW_TOKENS = 2**31 - 1
FALLBACK_LOOKAHEAD = 5  # L where a model has no trained look-ahead file


class SettingsError(ValueError):
    """A setting is outside its range; the message names the setting, the value and the range."""


class Strategy(StrEnum):
    """How the engine produces tokens; every strategy gives the model's own output distribution."""

    AUTOREGRESSIVE = "autoregressive"
    TWO_CALL = "pass-two-call"
    FUSED = "pass"

    @property
    def uses_lookahead(self) -> bool:
        """Whether drafts come from look-ahead embeddings."""
        return self in (Strategy.TWO_CALL, Strategy.FUSED)


class Baseline(StrEnum):
    """Decoders of others that the engine is compared with (`pass_core.evaluation.baselines`)."""

    TRANSFORMERS = "transformers-prompt-lookup"  # its own generate, plain or with its prompt lookup

    @property
    def uses_lookahead(self) -> bool:
        """Never: look-ahead embeddings are ours."""
        return False


class Verification(StrEnum):
    """The rule that accepts or corrects drafts (both lossless)."""

    COUPLED = "coupled"
    REJECTION = "rejection"


class LookaheadPart(StrEnum):
    """What drafts may use besides the embeddings: the parts of the file, the model's own bigrams where the file has no
    sampler head (`pass_core.lookahead.bigrams`), and a bonus for tokens that the text repeats
    (`pass_core.decoding.repetition_bonus`). The state head drafts without look-ahead rows
    (`pass_core.lookahead.state_head`)."""

    DEEP = "deep"
    ADAPTER = "adapter"
    SAMPLER = "sampler"
    STATE = "state"
    BIGRAMS = "bigrams"
    REPEATS = "repeats"


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """Temperature, top-k, top-p and min-p of the target distribution, applied in this order, as transformers does.

    Attributes:
        temperature: 0 (greedy) to 2.
        top_k: number of tokens kept, 1 to 200; 0 keeps the whole vocabulary.
        top_p: of these, the fewest likeliest whose probabilities add up to it are kept; above 0, and 1 is off.
        min_p: of these, those with at least min_p times the probability of the likeliest are kept; 0 is off.
    """

    temperature: float = 0.8
    top_k: int = 10
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= MAX_TEMPERATURE:
            raise SettingsError(f"temperature must be between 0 and {MAX_TEMPERATURE:g}, not {self.temperature}")
        if not 0 <= self.top_k <= MAX_TOP_K:
            raise SettingsError(f"top-k must be between 1 and {MAX_TOP_K} (or 0 for off), not {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise SettingsError(f"top-p must be above 0 and at most 1 (1 for off), not {self.top_p}")
        if not 0.0 <= self.min_p <= 1.0:
            raise SettingsError(f"min-p must be between 0 (off) and 1, not {self.min_p}")

    @property
    def described(self) -> tuple[str, ...]:
        """In words, such as "temperature 0.8" and "top-k off"; top-p and min-p where they are on."""
        out = [f"temperature {self.temperature:g}", f"top-k {self.top_k or 'off'}"]
        out += [f"top-p {self.top_p:g}"] if self.top_p < 1.0 else []
        return (*out, f"min-p {self.min_p:g}") if self.min_p else tuple(out)

    @property
    def log_min_p(self) -> float:
        """The logarithm of min-p, -inf for off."""
        return math.log(self.min_p) if self.min_p else -math.inf


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """Everything that may change while a generation runs.

    Attributes:
        strategy: autoregressive, pass-two-call or pass (fused).
        k: look-ahead steps in use; a fused tree is at most k deep. 0 is plain decoding. A k beyond the
            loaded file's L is reduced to L by the engine (the step's settings show the k in force).
        sampling: temperature, top-k, top-p and min-p.
        verification: coupled (default) or rejection.
        auto: fused only: the engine chooses tree and row budget from measured costs and may fall back to
            plain passes; off means always draft k deep within `row_budget`.
        row_budget: fused only: the most rows one forward pass may carry; None lets the engine choose.
        prompt_lookup: fused only: merge n-gram matches from the text so far into the tree.
        disabled_parts: parts that drafts do without, to see what each one brings.
    """

    strategy: Strategy = Strategy.FUSED
    k: int = 5
    sampling: SamplingSettings = SamplingSettings()
    verification: Verification = Verification.COUPLED
    auto: bool = True
    row_budget: int | None = None
    prompt_lookup: bool = False
    disabled_parts: frozenset[LookaheadPart] = frozenset()

    def __post_init__(self) -> None:
        _check_k(self.k)
        if self.row_budget is not None and not 1 <= self.row_budget <= MAX_ROWS:
            raise SettingsError(f"the row budget must be between 1 and {MAX_ROWS}, not {self.row_budget}")


@dataclass(frozen=True, slots=True)
class BaselineSettings:
    """What a baseline decodes with; fixed when a text starts.

    The remaining fields say nothing about it. Whoever reads a step's settings finds them as the engine has them.

    Attributes:
        strategy: whose code decodes.
        k: tokens that its prompt lookup copies at a time; 0 is its plain decoding.
        sampling: temperature, top-k, top-p and min-p.
    """

    strategy: Baseline = Baseline.TRANSFORMERS
    k: int = LOOKUP_TOKENS
    sampling: SamplingSettings = SamplingSettings()
    verification: Verification = field(default=Verification.COUPLED, init=False)
    auto: bool = field(default=True, init=False)
    row_budget: int | None = field(default=None, init=False)
    prompt_lookup: bool = field(default=False, init=False)
    disabled_parts: frozenset[LookaheadPart] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        _check_k(self.k)


RunSettings = DecodingSettings | BaselineSettings
Method = Strategy | Baseline


def method_named(value: str) -> Method:
    """The strategy or baseline of a file's word.

    Raises:
        ValueError: there is none.
    """
    return Baseline(value) if value in list(Baseline) else Strategy(value)


def _check_k(k: int) -> None:
    if not 0 <= k <= 64:
        raise SettingsError(f"k must be between 0 and 64, not {k}")


@dataclass(frozen=True, slots=True)
class StopConditions:
    """When a generation ends besides the user's Stop.

    Attributes:
        max_new_tokens: the most tokens that are emitted, at least 1.
        stop_strings: the text ends right before the first of these.
        ignore_eos: continue past the model's end-of-sequence tokens (for measurements of fixed length).
    """

    max_new_tokens: int = 256
    stop_strings: tuple[str, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise SettingsError(f"max new tokens must be at least 1, not {self.max_new_tokens}")
        if self.max_new_tokens > MAX_NEW_TOKENS:
            raise SettingsError(f"max new tokens must be at most {MAX_NEW_TOKENS}")
        if any(not s for s in self.stop_strings):
            raise SettingsError("a stop string must not be empty")
