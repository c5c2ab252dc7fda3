"""Start and end tokens of a GGUF file, by llama.cpp's rules, on the tokenizer that transformers made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pass_core.models.gguf_header import GgufHeader

# Byte-level vocabularies that llama.cpp starts with BOS where the file is silent (llama-vocab.cpp).
_START_BY_DEFAULT = frozenset(
    {
        "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
        "tekken",
    }
)  # fmt: skip
_PREFIX = "tokenizer.ggml"
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")


def starts_with_bos(header: GgufHeader) -> bool:
    """Whether prompts begin with the start token: the file's word, else llama.cpp's rule for its vocabulary."""
    data = header.metadata
    if data.get(f"{_PREFIX}.bos_token_id") is None and data.get(f"{_PREFIX}.model") != "llama":
        return False
    said = data.get(f"{_PREFIX}.add_bos_token")
    if said is not None:
        # Gemma 4's file says so, and its template brings the token (see transformers' reader).
        return bool(said) and data.get(f"{_PREFIX}.model") != "gemma4"
    return data.get(f"{_PREFIX}.model") == "llama" or data.get(f"{_PREFIX}.pre") in _START_BY_DEFAULT


def end_ids(header: GgufHeader) -> list[int]:
    """Tokens that end a text: end of sequence, of a turn and of a message, each once, in this order."""
    found = (header.metadata.get(f"{_PREFIX}.{name}") for name in _ENDS)
    size = header.tensors["token_embd.weight"].shape[0]
    return list(dict.fromkeys(i for i in found if isinstance(i, int) and 0 <= i < size))


def finish_tokenizer(tokenizer: Any, header: GgufHeader, folder: Path) -> None:
    """Save the tokenizer so that a loaded one starts prompts rightly and never ends them.

    An end token before a continuation (`add_eos_token`) makes a model begin another text.
    """
    from transformers import AutoTokenizer

    start = _start_id(tokenizer, header)
    tokenizer.save_pretrained(str(folder))
    loaded: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if _frame(loaded) == (() if start is None else (start,)):
        return
    plain = _with_frame(tokenizer, start)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    plain.save_pretrained(str(folder))


def _start_id(tokenizer: Any, header: GgufHeader) -> int | None:
    if not starts_with_bos(header):
        return None
    stated = header.metadata.get(f"{_PREFIX}.bos_token_id")
    found = tokenizer.bos_token_id if stated is None else stated
    return None if found is None else int(found)


def _frame(tokenizer: Any) -> tuple[int, ...]:
    """The special tokens that the tokenizer puts around any text."""
    return tuple(int(i) for i in tokenizer("")["input_ids"])


def _with_frame(tokenizer: Any, start: int | None) -> Any:
    """The same vocabulary as a plain fast tokenizer that puts `start` before a text, and nothing after it."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    backend: Any = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    # GPT-2's own post-processor only trims offsets.
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    if start is not None:
        token = backend.id_to_token(start)
        backend.post_processor = processors.TemplateProcessing(
            single=[token, "$A"],
            pair=[token, "$A", f"{token}:1", "$B:1"],
            special_tokens=[(token, start)],
        )
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    special = {n: t for n in names if (t := getattr(tokenizer, n, None)) is not None}
    made = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **special)
    made.chat_template = tokenizer.chat_template
    return made
