"""Exact bytes of tokens: byte-level BPE, SentencePiece with byte fallback, special and added tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pass_core.models.detokenizer import TextStream, TokenBytes
from pass_core.models.language_model import LanguageModel
from tests import tiny

TEXTS = (
    "Plain words, with  two spaces.\n\tAnd a tab.",
    "naïve café, Ærøskøbing",
    "日本語とкириллица",
    "emoji 👩‍👩‍👧 and flags 🇩🇪",
    "   leading and trailing   ",
    "\x00\x01\x7f control",
)


def byte_level(vocabulary_size: int = 400) -> Any:
    """A byte-level BPE that merges across the bytes of characters, as GPT-2's does."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(TEXTS * 3, trainer)
    backend.add_special_tokens([AddedToken("<|end|>", special=True)])
    backend.add_tokens([AddedToken("<tool>", special=False)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")


def sentencepiece() -> Any:
    """Llama 2's kind: ▁ for spaces, <0xNN> for the bytes of unknown characters."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,"
    words = ["▁", *letters, "▁the", "▁word", "ré"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words]
    vocabulary = {p: i for i, p in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


ANY_TEXT = st.text(st.characters(exclude_characters="<", exclude_categories=("Cs",)), max_size=30)  # no special token


def joined(tokenizer: Any, text: str) -> bytes:
    give = TokenBytes(tokenizer)
    return b"".join(give(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"])


KINDS = {"byte-level": byte_level(), "sentencepiece": sentencepiece(), "bytes": tiny.byte_tokenizer()}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_give_the_bytes_of_their_text(kind: str, text: str) -> None:
    assert joined(KINDS[kind], text) == text.encode()


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(text=ANY_TEXT)
def test_any_text_survives(kind: str, text: str) -> None:
    assert joined(KINDS[kind], text) == text.encode()


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(text=ANY_TEXT)
def test_the_stream_gives_whole_characters_and_all_of_them(kind: str, text: str) -> None:
    tokenizer = KINDS[kind]
    give, stream = TokenBytes(tokenizer), TextStream()
    out = [stream.add(give(i)) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    out.append(stream.add(b"", last=True))
    assert "".join(out) == text


def test_special_tokens_add_nothing_and_show_their_name() -> None:
    for tokenizer, name in ((byte_level(), "<|end|>"), (sentencepiece(), "</s>")):
        give = TokenBytes(tokenizer)
        token = tokenizer.convert_tokens_to_ids(name)
        assert give(token) == b""
        assert give.display(token) == name


def test_added_tokens_that_are_not_special_add_their_text() -> None:
    tokenizer = byte_level()
    assert TokenBytes(tokenizer)(tokenizer.convert_tokens_to_ids("<tool>")) == b"<tool>"


def test_parts_of_characters_are_shown_as_replacement_characters() -> None:
    give = TokenBytes(tiny.byte_tokenizer())
    assert give(0xC3) == b"\xc3"
    assert give.display(0xC3) == "\ufffd"
    assert TokenBytes(sentencepiece())(3 + 0xE2) == b"\xe2"


def test_ids_beyond_the_tokenizer_add_nothing() -> None:
    for tokenizer in KINDS.values():
        assert TokenBytes(tokenizer)(100_000) == b""


def test_without_a_tokenizer_ids_show_themselves() -> None:
    give = TokenBytes(None)
    assert give(7) == "⟨7⟩".encode()
    assert give.display(7) == "⟨7⟩"


def test_other_tokenizers_are_asked_to_decode_single_tokens() -> None:
    backend = Tokenizer(models.WordLevel({"hello": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    assert TokenBytes(PreTrainedTokenizerFast(tokenizer_object=backend))(0) == b"hello"


class TestStream:
    def test_characters_come_with_their_last_byte(self) -> None:
        stream = TextStream()
        assert [stream.add(bytes([b])) for b in "aé€😀".encode()] == ["a", "", "é", "", "", "€", "", "", "", "😀"]

    def test_a_broken_end_becomes_a_replacement_character(self) -> None:
        stream = TextStream()
        assert stream.add(b"a\xe2\x82") == "a"
        assert stream.add(b"", last=True) == "\ufffd"

    def test_bytes_that_fit_nowhere_do_not_swallow_what_follows(self) -> None:
        assert TextStream().add(b"\xffok\xc3(") == "\ufffdok\ufffd("


@pytest.mark.model
@pytest.mark.parametrize("text", TEXTS)
def test_the_default_models_tokens(default_model: LanguageModel, text: str) -> None:
    assert joined(default_model.tokenizer, text) == text.encode()
