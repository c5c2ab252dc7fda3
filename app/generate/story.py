"""What a run gained, in one sentence; or why it gained nothing, and what would change that."""

from __future__ import annotations

from dataclasses import dataclass

from pass_core.decoding.summary import Summary
from pass_core.settings import Strategy

BEFORE = (
    "Green, underlined tokens will be drafts that the model accepted: tokens that cost no forward pass of their own."
)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the figures alone do not say.

    Attributes:
        trained: whether drafts came from trained look-ahead embeddings.
        temperature: at the end of the run.
        lookup: whether prompt lookup was on.
    """

    trained: bool
    temperature: float = 0.0
    lookup: bool = False


def story(s: Summary, c: Circumstances) -> str:
    """The sentence. Every rate stands beside the numbers that it was made of."""
    if not s.new_tokens:
        return ""
    head = f"{_count(s.new_tokens, 'token')} in {_count(s.calls, 'forward pass', 'forward passes')}"
    if s.accepted:
        share = f"{100 * s.accepted / s.proposed:.0f} % of the {s.proposed} proposed"
        kinds = "green" if not s.sources.get("prompt-lookup") else "green and yellow"
        came = "came from an accepted draft" if s.accepted == 1 else "came from accepted drafts"
        return f"{head}; {s.accepted} of them ({kinds}, underlined) {came}, {share}."
    if s.strategy == Strategy.AUTOREGRESSIVE or (s.k == 0 and not c.lookup):
        return f"{head}: plain decoding drafts nothing. Choose PASS to draft; the text stays the same."
    if not s.proposed:
        return f"{head}: drafting did not pay here. {_way_out(c)}"
    return f"{head}: none of {_count(s.proposed, 'proposed draft')} was accepted. {_way_out(c)}"


def _way_out(c: Circumstances) -> str:
    if not c.trained:
        return "Train look-ahead embeddings for this model on the Train page."
    if c.temperature > 1.0:
        return f"A temperature below {c.temperature:g} makes drafts easier to guess."
    if not c.lookup:
        return "Switch on prompt lookup, or train the look-ahead embeddings for longer."
    return "Look-ahead embeddings trained for longer would help."


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"
