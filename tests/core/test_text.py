"""Text from outside is well-formed, decoded by its mark, or refused as binary."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pass_core.text import NotText, decode, encoding_of, well_formed


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_text_becomes_well_formed_and_stays_so(text: str) -> None:
    made = well_formed(text)
    made.encode()
    assert well_formed(made) == made
    assert len(made) <= len(text)


def test_lone_surrogates_and_pairs() -> None:
    assert well_formed("a\ud800b\udcff") == "a\ufffdb\ufffd"
    assert well_formed("\ud83d\ude00") == "😀"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marks_are_followed_and_dropped(encoding: str) -> None:
    data = "café 😀".encode(encoding)
    assert decode(data) == "café 😀"
    assert data.decode(encoding_of(data[:4])) == "café 😀"


@pytest.mark.parametrize(("mark", "codec"), [(codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_BE, "utf-32-be")])
def test_the_other_byte_order(mark: bytes, codec: str) -> None:
    assert decode(mark + "café".encode(codec)) == "café"


def test_a_few_broken_bytes_are_replaced() -> None:
    assert decode(b"caf\xe9 au lait") == "caf\ufffd au lait"


@pytest.mark.parametrize("data", [b"\x7fELF\0\1", "text".encode("utf-16-le"), bytes(range(128, 256)) * 4])
def test_binary_is_no_text(data: bytes) -> None:
    with pytest.raises(NotText):
        decode(data)
