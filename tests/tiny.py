"""Tiny random models for exact tests: every family, deterministic, float32 on the CPU, made in milliseconds.

Untrained weights of the usual scale give nearly flat distributions, where a wrong rule hides behind chance; here the
lm_head is scaled so that a few tokens carry most of the mass, as in a trained model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pass_core.models.capabilities import examine
from pass_core.models.language_model import LanguageModel, fingerprint

BYTE_VOCABULARY = 260  # 256 bytes, then <|end|> and three unused ids
END = 256


def tiny_llama(**options: Any) -> LanguageModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    return _build(LlamaForCausalLM, LlamaConfig, "tiny-llama", {"num_key_value_heads": 2}, **options)


def tiny_mistral(**options: Any) -> LanguageModel:
    from transformers import MistralConfig, MistralForCausalLM

    extra = {"num_key_value_heads": 2, "sliding_window": options.pop("sliding_window", None), "head_dim": 8}
    return _build(MistralForCausalLM, MistralConfig, "tiny-mistral", extra, **options)


def tiny_qwen2(**options: Any) -> LanguageModel:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return _build(Qwen2ForCausalLM, Qwen2Config, "tiny-qwen2", {"num_key_value_heads": 2}, **options)


def tiny_qwen3(**options: Any) -> LanguageModel:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return _build(Qwen3ForCausalLM, Qwen3Config, "tiny-qwen3", {"num_key_value_heads": 2, "head_dim": 8}, **options)


def tiny_gemma(**options: Any) -> LanguageModel:
    from transformers import GemmaConfig, GemmaForCausalLM

    return _build(GemmaForCausalLM, GemmaConfig, "tiny-gemma", {"num_key_value_heads": 1, "head_dim": 8}, **options)


def tiny_phi(**options: Any) -> LanguageModel:
    from transformers import PhiConfig, PhiForCausalLM

    return _build(PhiForCausalLM, PhiConfig, "tiny-phi", {"partial_rotary_factor": 0.5}, **options)


def tiny_gpt_neox(**options: Any) -> LanguageModel:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return _build(GPTNeoXForCausalLM, GPTNeoXConfig, "tiny-gpt-neox", {"rotary_pct": 0.5}, **options)


def tiny_gpt2(**options: Any) -> LanguageModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    return _build(GPT2LMHeadModel, GPT2Config, "tiny-gpt2", {}, **options)


FAMILIES: dict[str, Callable[..., LanguageModel]] = {
    "llama": tiny_llama,
    "mistral": tiny_mistral,
    "qwen2": tiny_qwen2,
    "qwen3": tiny_qwen3,
    "gemma": tiny_gemma,
    "phi": tiny_phi,
    "gpt_neox": tiny_gpt_neox,
    "gpt2": tiny_gpt2,
}


def _build(
    model_class: Any,
    config_class: Any,
    name: str,
    extra: dict[str, Any],
    *,
    vocabulary: int = 64,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    context: int = 256,
    seed: int = 0,
    peak: float = 3.0,
    tie: bool = False,
    tokenizer: bool = False,
    eos: frozenset[int] = frozenset(),
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
    **overrides: Any,
) -> LanguageModel:
    """Make a model.

    Args:
        vocabulary: tokens; a byte-level tokenizer needs `BYTE_VOCABULARY` and takes it by itself.
        context: the most positions.
        peak: standard deviation of the logits: 0 is flat, 3 gives the likeliest token about half the mass.
        tie: one table for input and head.
        tokenizer: whether to add the byte-level tokenizer (its end token then ends a text).
        eos: token ids that end a text, besides the tokenizer's.
        attention: "sdpa" or "eager".
        overrides: further config fields.
    """
    fields: dict[str, Any] = {
        "vocab_size": BYTE_VOCABULARY if tokenizer else vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": context,
        "tie_word_embeddings": tie,
        "bos_token_id": None,
        "eos_token_id": END if tokenizer else None,
        "pad_token_id": None,
        "attn_implementation": attention,
    }
    if model_class.__name__.startswith("GPT2"):
        fields["n_inner"] = fields.pop("intermediate_size")
        fields |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = config_class(**(fields | extra | overrides))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim >= 2:
                    # He-like scale: every layer changes the state enough for the context to matter.
                    parameter.normal_(0.0, parameter.shape[-1] ** -0.5)
            if hasattr(model.base_model, "wpe"):
                model.base_model.wpe.weight.mul_(0.5)
    model.eval()
    model.requires_grad_(False)
    _set_peak(model, fields["vocab_size"], peak)
    model.to(dtype)
    return LanguageModel(
        name=name,
        source=name,
        model=model,
        tokenizer=byte_tokenizer() if tokenizer else None,
        capabilities=examine(model.config),
        fingerprint=fingerprint(model),
        eos_token_ids=eos | ({END} if tokenizer else frozenset()),
    )


def _set_peak(model: Any, vocabulary: int, peak: float) -> None:
    """Scale the last normalisation so that logits spread by `peak`, whatever the family and tying."""
    ids = torch.arange(min(16, vocabulary))[None]
    spread = float(model(ids).logits.std())
    norm = next(
        m for n, m in reversed(list(model.base_model.named_modules())) if n and _is_norm(m) and "layers" not in n
    )
    with torch.no_grad():
        for _ in range(12):  # Gemma's norm multiplies by 1 + weight, so the step to the target is repeated
            factor = peak / max(spread, 1e-6)
            if "Gemma" in type(norm).__name__:
                norm.weight.copy_((1 + norm.weight) * factor - 1)
            else:
                norm.weight.mul_(factor)
                if getattr(norm, "bias", None) is not None:
                    norm.bias.mul_(factor)
            spread = float(model(ids).logits.std())
            if abs(spread - peak) < 1e-3 * peak:
                return


def _is_norm(module: Any) -> bool:
    return "norm" in type(module).__name__.lower() and getattr(module, "weight", None) is not None


def save(model: LanguageModel, folder: Path) -> Path:
    """Write the model, and its tokenizer where it has one, as a transformers folder."""
    model.model.save_pretrained(str(folder))
    if model.tokenizer is not None:
        model.tokenizer.save_pretrained(str(folder))
    return folder


def byte_tokenizer(chat: bool = True) -> Any:
    """One token per byte, `<|end|>` at 256; with a chat template of the usual shape."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = _byte_alphabet()
    backend = Tokenizer(models.BPE(vocab={alphabet[b]: b for b in range(256)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|end|>", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    if chat:
        tokenizer.chat_template = (
            "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|end|>{% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}"
        )
    return tokenizer


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (b for b in range(256) if b not in printable)
    table = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [table[b] for b in range(256)]
