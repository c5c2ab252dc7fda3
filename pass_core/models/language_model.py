"""A loaded causal language model: weights, tokenizer, and what the engine needs to know of its structure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from pass_core.models.placement import execution_device, stored_parameter


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the engine can do with a model.

    Attributes:
        supports_pass: whether drafting with look-ahead rows is possible (needs arbitrary masks and rollback).
        reason: why not, in plain words ("" when supported).
        context_length: the most tokens of prompt and text together.
        learned_positions: absolute position embeddings (GPT-2) instead of rotary ones.
        sliding_window: the most positions that layers with a window see, None where no window is shorter than the
            context.
    """

    supports_pass: bool
    reason: str
    context_length: int
    learned_positions: bool = False
    sliding_window: int | None = None


@dataclass
class LanguageModel:
    """A ready model. Made by `pass_core.models.loading.load_model`, or directly from modules in tests.

    Attributes:
        name: what a person calls it (catalog name, hub id or folder name).
        source: where it was loaded from (catalog id, hub id or path), enough to load it again.
        model: a transformers causal LM in eval mode on `device`, all parameters frozen.
        tokenizer: its transformers tokenizer; None only in engine tests with raw ids.
        fingerprint: 16 hex digits that identify the weights, the same for every dtype, device and quantisation.
        gguf: the GGUF file that the weights were converted from, where it is on this machine.
        weights: the format that the compiled library computes with: "auto" is measured, "gguf" the blocks of that file,
            "int8" the module's weights rounded to 8-bit blocks, "module" the module's own dtype.
        weights_reason: one line on why "auto" chose its format; "" before it has.
        quantization: "int8" or "int4" where the layers' weights were quantised while loading, else "".
    """

    name: str
    source: str
    model: Any
    tokenizer: Any
    capabilities: Capabilities
    fingerprint: str
    eos_token_ids: frozenset[int] = frozenset()
    quantization: str = ""
    gguf: Path | None = None
    weights: Literal["auto", "gguf", "int8", "module"] = "module"
    weights_reason: str = ""

    @property
    def device(self) -> torch.device:
        """Where inputs go; a model that is spread computes on others, too."""
        return execution_device(self.input_embedding)

    @property
    def dtype(self) -> torch.dtype:
        return self.input_embedding.weight.dtype

    @property
    def config(self) -> Any:
        """The text part of the transformers config."""
        return self.model.config.get_text_config()

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

    @property
    def vocabulary_size(self) -> int:
        return int(self.lm_head.weight.shape[0])

    @property
    def base(self) -> nn.Module:
        """The decoder below the lm_head (adapter names are relative to it)."""
        return cast(nn.Module, self.model.base_model)

    @property
    def input_embedding(self) -> nn.Embedding:
        """The token embedding table, weight [vocabulary, hidden]."""
        return cast(nn.Embedding, self.model.get_input_embeddings())

    @property
    def lm_head(self) -> nn.Linear:
        """The lm_head, weight [vocabulary, hidden]."""
        return cast(nn.Linear, self.model.get_output_embeddings())

    def logits(
        self,
        hidden: torch.Tensor,
        ids: torch.Tensor | None = None,
        operands: torch.dtype | None = None,
    ) -> torch.Tensor:
        """Logits as the whole model computes them, lm_head, logit scale and soft cap included.

        Gradients pass through to `hidden`.

        Args:
            hidden: states after the final norm [rows, hidden].
            ids: the tokens to score [n]; all of the vocabulary by default.
            operands: with `ids`, what their weights are rounded to first; sums keep the dtype of `hidden`.

        Returns:
            float32 [rows, vocabulary] or [rows, n].
        """
        if ids is None:
            raw = self.lm_head(hidden.to(execution_device(self.lm_head))).float()
        else:
            weight, bias = (stored_parameter(self.lm_head, name) for name in ("weight", "bias"))
            assert weight is not None
            at = ids.to(weight.device)
            chosen = None if bias is None else bias[at].to(hidden)
            rows = weight.index_select(0, at)
            rows = rows if operands is None else rows.to(operands)
            raw = nn.functional.linear(hidden, rows.to(hidden), chosen).float()
        return self._scaled(raw)

    def shortlist(self, ids: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """What gives the logits [rows, n] of tokens `ids` [n] for states [rows, hidden], as `logits` has them.

        It keeps a copy of their rows of the lm_head, where that is a plain linear layer."""
        if type(self.lm_head) is not nn.Linear:
            return lambda hidden: self.logits(hidden)[:, ids.to(execution_device(self.lm_head))]
        weight, bias = (stored_parameter(self.lm_head, name) for name in ("weight", "bias"))
        assert weight is not None
        at = ids.to(weight.device)
        rows, chosen = weight.detach().index_select(0, at), None if bias is None else bias.detach()[at]
        return lambda hidden: self._scaled(nn.functional.linear(hidden.to(rows), rows, chosen).float())

    def _scaled(self, raw: torch.Tensor) -> torch.Tensor:
        """The lm_head's products as logits: scale and soft cap."""
        divisor = getattr(self.config, "logits_scaling", None)  # Granite
        if divisor:
            raw = raw / divisor
        cap = getattr(self.config, "final_logit_softcapping", None)  # Gemma 2
        return torch.tanh(raw / cap) * cap if cap else raw

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The decoder layers, first to last."""
        count = int(self.config.num_hidden_layers)
        for module in self.base.modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return list(module)
        raise ValueError(f"{self.name}: found no list of {count} decoder layers")

    def linears(self) -> dict[str, nn.Module]:
        """Linear modules inside the decoder layers (nn.Linear, GPT-2's Conv1D) by name relative to `base`."""
        from transformers.pytorch_utils import Conv1D

        inside = {id(m) for layer in self.layers for m in layer.modules()}
        return {n: m for n, m in self.base.named_modules() if id(m) in inside and isinstance(m, (nn.Linear, Conv1D))}

    def weight_bytes(self) -> int:
        """Bytes of all parameters (shared ones once)."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.model.parameters())


def fingerprint(model: Any) -> str:
    """16 hex digits over the architecture and a sample of the weights, as bfloat16 so that dtype does not matter."""
    return fingerprint_of(model.config, sorted(model.named_parameters()))


def fingerprint_of(config: Any, parameters: Iterable[tuple[str, torch.Tensor]]) -> str:
    """`fingerprint` of a config and named parameters, in the order of their names."""
    text = config.get_text_config()
    digest = hashlib.sha256()
    for key in ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        digest.update(f"{key}={getattr(text, key, None)};".encode())
    for name, parameter in parameters:
        flat = parameter.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)][:64].to(device="cpu", dtype=torch.bfloat16)
        digest.update(name.encode())
        digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]
