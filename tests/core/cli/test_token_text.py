"""Streaming text: nothing of a stop string is ever shown, and every token keeps its style."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pass_core.cli.token_text import STYLES, Holdback, PlainText, StyledText
from pass_core.decoding.events import DraftSource, Provenance, StepEvent, StopReason, TokenEvent
from pass_core.settings import DecodingSettings


def step(*texts: str, stop: StopReason | None = None, overlap: int = 0, **token: object) -> StepEvent:
    """A step that emits these texts."""
    kinds = {"provenance": Provenance.MODEL} | token
    tokens = tuple(
        TokenEvent(index=i, id=i, bytes=t.encode(), text=t, draft_position=None, p_target=1.0, **kinds)  # type: ignore[arg-type]
        for i, t in enumerate(texts)
    )
    return StepEvent(0, tokens, (), 1, (1,), 0, 0.1, 0.1, DecodingSettings(), 9, stop_reason=stop, stop_overlap=overlap)


def shown(steps: list[StepEvent], stops: tuple[str, ...]) -> list[str]:
    hold = Holdback(stops)
    return ["".join(text for text, _ in hold.add(s)) for s in steps]


def test_text_flows_at_once_without_stop_strings() -> None:
    assert shown([step("a", "b"), step("c")], ()) == ["ab", "c"]


def test_what_may_begin_a_stop_string_waits() -> None:
    steps = [step("one E"), step("N"), step("D", stop=StopReason.STOP_STRING, overlap=3)]
    assert shown(steps, ("END",)) == ["one ", "", ""]


def test_what_turns_out_harmless_is_shown() -> None:
    assert shown([step("one E"), step("N"), step("gland")], ("END",)) == ["one ", "", "ENgland"]


def test_the_rest_is_shown_when_the_text_ends_otherwise() -> None:
    assert shown([step("one E"), step("N", stop=StopReason.MAX_NEW_TOKENS)], ("END",)) == ["one ", "EN"]


def test_text_after_the_stop_string_in_the_same_token_is_cut_too() -> None:
    assert shown([step("x", "a#b", "#!\n", stop=StopReason.STOP_STRING, overlap=4)], ("##", "b#")) == ["xa#"[:3]]


@pytest.mark.parametrize("stops", [("aab",), ("ab", "ba")])
def test_holding_back_never_loses_or_reorders(stops: tuple[str, ...]) -> None:
    pieces = ["a", "a", "ca", "ab", "b", "aa"]
    steps = [step(p) for p in pieces[:-1]] + [step(pieces[-1], stop=StopReason.CANCELLED)]
    assert "".join(shown(steps, stops)) == "".join(pieces)


def test_plain_text_is_the_text_and_one_line_end() -> None:
    out = io.StringIO()
    plain = PlainText(out)
    plain.add(step("Hé", " there"))
    plain.finish()
    assert out.getvalue() == "Hé there\n"


def terminal() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="256", highlight=False, soft_wrap=True, width=40)
    return console, out


def test_styles_differ_without_their_colours() -> None:
    looks = {" ".join(word for word in style.split() if not word.startswith("color")) for style in STYLES.values()}
    assert len(looks) == len(STYLES)


@pytest.mark.parametrize("system", ["256", "standard", "windows"])
def test_colours_differ_on_terminals_with_few_colours_too(system: str) -> None:
    shown: dict[str, str] = {}
    for kind, style in STYLES.items():
        colour = " ".join(word for word in style.split() if word.startswith("color"))
        out = io.StringIO()
        Console(file=out, force_terminal=True, color_system=system).print("x", style=colour or "none")  # type: ignore[arg-type]
        shown[kind] = out.getvalue()
    assert len(set(shown.values())) == len(STYLES)


def test_tokens_are_styled_by_provenance_and_long_lines_left_to_the_terminal() -> None:
    console, out = terminal()
    writer = StyledText(console)
    writer.add(step("plain " * 12))
    writer.add(step("kept", provenance=Provenance.ACCEPTED, source=DraftSource.LOOKAHEAD))
    writer.add(step("copied", provenance=Provenance.ACCEPTED, source=DraftSource.LOOKUP))
    writer.add(step("[bold]mended\x1b[2J", provenance=Provenance.CORRECTED))
    writer.finish()
    text = out.getvalue()
    assert text.startswith("plain " * 12)
    assert "\x1b[4;38;5;36mkept\x1b[0m" in text
    assert "\x1b[3;4;38;5;136mcopied\x1b[0m" in text
    assert "[bold]mended␛[2J" in text  # neither markup nor a way to command the terminal


def test_no_control_character_reaches_the_terminal() -> None:
    console, out = terminal()
    writer = StyledText(console)
    writer.add(step("".join(chr(n) for n in range(0x100))))
    writer.finish()
    shown = out.getvalue()
    assert {c for c in shown if ord(c) < 32 or 0x7F <= ord(c) < 0xA0} <= {"\t", "\n"}


def test_the_legend_counts_and_names_only_what_occurred() -> None:
    console, out = terminal()
    StyledText(console).legend({"model": 3, "accepted": 5, "corrected": 2, "bonus": 0}, {"prompt-lookup": 4})
    text = Console(file=io.StringIO()).render_str(out.getvalue()).plain
    assert "model 3" in text
    assert "accepted 1" in text
    assert "prompt lookup 4" in text
    assert "corrected 2" in text
    assert "bonus" not in text
