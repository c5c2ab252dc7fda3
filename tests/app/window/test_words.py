"""What cards and tables call things: bytes of split characters, text from right to left, one of something."""

from __future__ import annotations

import pytest

from app.inspector.explain import contests
from app.theme.apply import ThemeManager
from app.widgets.figures import Figures
from app.widgets.series import RunSeries
from app.widgets.text_format import count_of, token_text, visible
from pass_core.decoding.events import Candidate, StopReason
from pass_core.models.detokenizer import TokenBytes
from tests.app.window.events import step, token
from tests.tiny import tiny_llama


def test_a_part_of_a_character_is_named_by_its_bytes() -> None:
    half = token(0, "", data=b"\xd7")
    assert token_text(half) == "<0xD7>"
    assert contests(step(0, [half]))[0].verdict.startswith("“<0xD7>”")
    whole = token(1, "א", data=b"\x90")  # the text that became complete with this token
    assert token_text(whole) == "\u2068א\u2069"


def test_every_token_of_a_byte_level_vocabulary_has_a_name_without_replacement_characters() -> None:
    model = tiny_llama(tokenizer=True)
    names = TokenBytes(model.tokenizer)
    shown = {i: names.display(i) for i in range(model.lm_head.weight.shape[0])}
    broken = [i for i in shown if not _decodes(names(i))]
    assert broken  # the vocabulary has bytes above 127
    for i in broken:
        assert shown[i] == "".join(f"<0x{b:02X}>" for b in names(i))
    assert not any("\ufffd" in text for text in shown.values())


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("text", ["שלום", "مرحبا", "a שלום"])
def test_text_from_right_to_left_is_isolated(text: str) -> None:
    """Without it, “(12 %)” beside a Hebrew token would be drawn on its other side."""
    assert visible(text) == f"\u2068{text.replace(' ', '·')}\u2069"
    assert token_text(Candidate(1, text, 0.5)) == visible(text)
    assert visible("plain") == "plain"


def test_one_is_singular(theme: ThemeManager) -> None:
    assert [count_of(n, "call") for n in (0, 1, 2, 1200)] == ["0 calls", "1 call", "2 calls", "1,200 calls"]
    series, figures = RunSeries(), Figures()
    series.add(step(0, [token(0, "a")], stop=StopReason.MAX_NEW_TOKENS))
    figures.show_series(series)
    assert figures.per_call.remark.text() == "1 call"
