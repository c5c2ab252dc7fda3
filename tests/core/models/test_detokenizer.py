"""Exact bytes of tokens: byte-level BPE, SentencePiece with byte fallback, special and added tokens."""

from __future__ import annotations

import random
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


def fast(backend: Any, normalizer: Any = None, pre: Any = None, decoder: Any = None, **names: str) -> Any:
    if normalizer is not None:
        backend.normalizer = normalizer
    if pre is not None:
        backend.pre_tokenizer = pre
    if decoder is not None:
        backend.decoder = decoder
    backend.add_tokens([AddedToken("<tool>", special=False)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def trained(model: Any, trainer: Any, pre: Any, decoder: Any, **names: str) -> Any:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre
    backend.train_from_iterator([*TEXTS, WORDS] * 3, trainer)
    return fast(backend, decoder=decoder, **names)


WORDS = "the quick brown foxes don't jump over lazy dogs' tails, do they? they're not; I'm 12.5% sure! naïve café"
LETTERS = sorted(set(WORDS))


def metaspace(scheme: str, sign: str = "▁") -> Any:
    pre = pre_tokenizers.Metaspace(replacement=sign, prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    decoder = decoders.Metaspace(replacement=sign, prepend_scheme=scheme)
    return trained(models.Unigram(), trainer, pre, decoder, unk_token="<unk>")


def word_piece(cleanup: bool) -> Any:
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]"], show_progress=False)
    decoder = decoders.WordPiece(cleanup=cleanup)
    model = models.WordPiece(unk_token="[UNK]")  # type: ignore[call-arg]
    return trained(model, trainer, pre_tokenizers.BertPreTokenizer(), decoder, unk_token="[UNK]")


def end_of_word() -> Any:
    trainer = trainers.BpeTrainer(
        vocab_size=150, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    model = models.BPE(unk_token="<unk>", end_of_word_suffix="</w>")
    return trained(model, trainer, pre_tokenizers.BertPreTokenizer(), decoders.BPEDecoder(), unk_token="<unk>")


def word_level(clean: bool) -> Any:
    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False)
    made = trained(models.WordLevel(unk_token="[UNK]"), trainer, pre_tokenizers.Whitespace(), None, unk_token="[UNK]")
    made.clean_up_tokenization_spaces = clean
    return made


def llama_two() -> Any:
    """As converted from SentencePiece: a space is put before the text, and its decoder takes it away."""
    made = sentencepiece()
    made.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


DECODERS = {
    "byte-level": byte_level,
    "sentencepiece": sentencepiece,
    "llama 2": llama_two,
    "word-piece": lambda: word_piece(False),
    "word-piece, cleaned": lambda: word_piece(True),
    "</w>": end_of_word,
    "word-level": lambda: word_level(False),
    "metaspace, always": lambda: metaspace("always"),
    "metaspace, first": lambda: metaspace("first"),
    "metaspace, never": lambda: metaspace("never"),
    "metaspace, another sign": lambda: metaspace("first", "_"),
}


def random_text(chance: random.Random) -> str:
    parts = [*WORDS.split(), *LETTERS, "<tool>", "  ", "\n", "é", "日", "👩‍👩‍👧", "\u0301", "unseen"]
    return "".join(chance.choice(parts) + chance.choice(["", " ", " "]) for _ in range(chance.randint(0, 12)))


@pytest.mark.parametrize("kind", DECODERS)
def test_pieces_put_together_are_what_the_tokenizer_decodes(kind: str) -> None:
    """300 random texts: as a whole, and as what goes on after another."""
    tokenizer, chance = DECODERS[kind](), random.Random(kind)
    give, longest = TokenBytes(tokenizer), 0
    for _ in range(300):
        ids = tokenizer(random_text(chance), add_special_tokens=False)["input_ids"]
        wanted = tokenizer.decode(ids, skip_special_tokens=True)
        assert give.whole(ids).decode() == wanted
        streamed = b"".join(map(give, ids)).decode()
        assert streamed.strip(" ") == wanted.strip(" ")
        longest = max(longest, len(ids))
        before = tokenizer("the quick", add_special_tokens=False)["input_ids"]
        both = tokenizer.decode([*before, *ids], skip_special_tokens=True)
        after = give.whole(before).decode() + (" " if kind == "</w>" and ids else "") + streamed
        assert after.rstrip(" ") == both.rstrip(" ")
    assert longest > 20


def test_special_tokens_add_nothing_and_show_their_name() -> None:
    for tokenizer, name in ((byte_level(), "<|end|>"), (sentencepiece(), "</s>")):
        give = TokenBytes(tokenizer)
        token = tokenizer.convert_tokens_to_ids(name)
        assert give(token) == b""
        assert give.display(token) == name


def test_added_tokens_that_are_not_special_add_their_text() -> None:
    tokenizer = byte_level()
    assert TokenBytes(tokenizer)(tokenizer.convert_tokens_to_ids("<tool>")) == b"<tool>"


def test_parts_of_characters_are_shown_as_bytes() -> None:
    give = TokenBytes(tiny.byte_tokenizer())
    assert give(0xC3) == b"\xc3"
    assert give.display(0xC3) == "<0xC3>"
    assert TokenBytes(sentencepiece())(3 + 0xE2) == b"\xe2"


def test_ids_beyond_the_tokenizer_add_nothing() -> None:
    for tokenizer in KINDS.values():
        assert TokenBytes(tokenizer)(100_000) == b""


def test_without_a_tokenizer_ids_show_themselves() -> None:
    give = TokenBytes(None)
    assert give(7) == "⟨7⟩".encode()
    assert give.display(7) == "⟨7⟩"


def test_vocabularies_of_words_bring_their_spaces() -> None:
    backend = Tokenizer(models.WordLevel({"hello": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    give = TokenBytes(PreTrainedTokenizerFast(tokenizer_object=backend))
    assert give.whole([0]) == b"hello"
    assert give(0) == b" hello", "words have spaces between them, which nothing else brings"


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
