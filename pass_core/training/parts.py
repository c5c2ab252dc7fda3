"""The learnable look-ahead parts as one torch module: what the optimiser sees, and its way from and to the file.

Everything is float32, for models of any dtype. The meaning of each tensor is that of
`pass_core.lookahead.embeddings`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import (
    AdapterWeights,
    LookaheadEmbeddings,
    SamplerWeights,
    TrainingSummary,
    mean_vectors,
)
from pass_core.lookahead.errors import PartMismatch
from pass_core.lookahead.sampler import corrected, from_state
from pass_core.models.language_model import LanguageModel
from pass_core.training.config import TrainingConfig, TrainingError


class Adapter(nn.Module):
    """A low-rank update of one linear layer: y = Wx + up(down(x)). down [rank, in], up [out, rank]."""

    def __init__(self, down: torch.Tensor, up: torch.Tensor) -> None:
        super().__init__()
        self.down = nn.Parameter(down)
        self.up = nn.Parameter(up)

    def add_to(self, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """output [..., out] + up(down(x)), in the dtype of `x` [..., in]."""
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ self.down.to(x.dtype).T
        return torch.addmm(output.reshape(-1, output.shape[-1]), low, self.up.to(x.dtype).T).view(output.shape)


class Sampler(nn.Module):
    """The sampler head (`pass_core.lookahead.sampler`)."""

    def __init__(self, w_in: torch.Tensor, step: torch.Tensor, w_out: torch.Tensor) -> None:
        super().__init__()
        self.w_in = nn.Parameter(w_in)
        self.step = nn.Parameter(step)
        self.w_out = nn.Parameter(w_out)

    def forward(self, hidden: torch.Tensor, parent: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """Correct `hidden` [rows, H] given the parent token's embedding [rows, H] and the step (0-based) [rows]."""
        w_in, step, w_out = (w.to(hidden.dtype) for w in (self.w_in, self.step, self.w_out))
        return corrected(hidden, from_state(hidden, w_in, step[depth]), parent, w_in, w_out)


class TrainableParts(nn.Module):
    """All parts that learn.

    Attributes:
        embeddings: [L, hidden].
        deep: [layers, L, hidden] or None.
        adapter_names: linear modules (below the base model) that have an adapter, in the order of `adapters`.
        sampler: the sampler head or None.
        bigrams: the model's own; they score drafts where there is no sampler head. Nothing of them learns.
    """

    bigrams: Bigrams | None = None

    def __init__(
        self,
        embeddings: torch.Tensor,
        deep: torch.Tensor | None = None,
        adapters: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None,
        sampler: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(embeddings)
        self.deep = None if deep is None else nn.Parameter(deep)
        self.adapter_names = tuple(adapters or {})
        self.adapters = nn.ModuleList(Adapter(down, up) for down, up in (adapters or {}).values())
        self.sampler = None if sampler is None else Sampler(*sampler)

    @property
    def count(self) -> int:
        """L, the number of look-ahead steps."""
        return int(self.embeddings.shape[0])

    def fitted(
        self, model: LanguageModel, hidden: torch.Tensor, before: torch.Tensor, depth: torch.Tensor
    ) -> torch.Tensor | None:
        """Look-ahead states [rows, hidden] fitted to the tokens before the drafted ones, ids [rows], as decoding does
        it (depth: 0-based steps [rows]); None without a sampler and bigrams."""
        if self.sampler is not None:
            return self.sampler(hidden, model.input_embedding(before), depth)
        if self.bigrams is not None:
            return hidden + self.bigrams.after(before).to(hidden)
        return None

    def groups(self, config: TrainingConfig) -> list[dict[str, Any]]:
        """AdamW parameter groups, each with its part's learning rate as `lr` and `base_lr`, and no weight decay."""
        vectors: list[nn.Parameter] = [self.embeddings] + ([] if self.deep is None else [self.deep])
        groups: list[dict[str, Any]] = [{"params": vectors, "lr": config.vector_lr}]
        if len(self.adapters):
            groups.append({"params": list(self.adapters.parameters()), "lr": config.adapter_lr})
        if self.sampler is not None:
            groups.append({"params": list(self.sampler.parameters()), "lr": config.sampler_lr})
        for group in groups:
            group["base_lr"] = group["lr"]
            group["weight_decay"] = 0.0
        return groups

    def to_lookahead(
        self, model: LanguageModel, training: TrainingSummary | None = None, dtype: torch.dtype = torch.float32
    ) -> LookaheadEmbeddings:
        """A copy of the present values as a look-ahead file's content, on the CPU, in `dtype`."""

        def value(p: torch.Tensor) -> torch.Tensor:
            return p.detach().to(device="cpu", dtype=dtype, copy=True)

        adapters = {
            name: AdapterWeights(value(module.down), value(module.up))
            for name, module in zip(self.adapter_names, self.adapters, strict=True)
            if isinstance(module, Adapter)
        }
        head = self.sampler
        return LookaheadEmbeddings(
            embeddings=value(self.embeddings),
            deep=None if self.deep is None else value(self.deep),
            adapters=adapters,
            sampler=None if head is None else SamplerWeights(value(head.w_in), value(head.step), value(head.w_out)),
            base_model=model.name,
            base_fingerprint=model.fingerprint,
            training=training,
            origin="training",
        )


def linear_shapes(model: LanguageModel) -> dict[str, tuple[int, int]]:
    """(in, out) features of every linear module inside the decoder layers."""
    shapes: dict[str, tuple[int, int]] = {}
    for name, module in model.linears().items():
        out_in = tuple(int(n) for n in module.weight.shape)  # type: ignore[union-attr]
        shapes[name] = (out_in[1], out_in[0]) if isinstance(module, nn.Linear) else (out_in[0], out_in[1])
    return shapes


def chosen_linears(model: LanguageModel, config: TrainingConfig) -> dict[str, tuple[int, int]]:
    """The linear modules that get an adapter: those whose name ends with one of `config.targets` (all when empty).

    Raises:
        TrainingError: no linear's name ends so.
    """
    shapes = linear_shapes(model)
    if not config.targets:
        return shapes
    chosen = {n: s for n, s in shapes.items() if n.rsplit(".", 1)[-1] in config.targets}
    if not chosen:
        endings = sorted({n.rsplit(".", 1)[-1] for n in shapes})
        raise TrainingError(f"{model.name} has no linear layer named {', '.join(config.targets)}; it has {endings}.")
    return chosen


def new_parts(model: LanguageModel, config: TrainingConfig, init: LookaheadEmbeddings | None = None) -> TrainableParts:
    """Parts as `config` asks, from `init` where it has them, else freshly initialised from `config.seed`.

    Embeddings start at the mean input embedding with a little noise; deep vectors, `up` and `W_out` at zero, so that
    the untrained parts change nothing.

    Raises:
        TrainingError: `init` has fewer look-ahead steps than asked, or another adapter rank.
    """
    generator = torch.Generator().manual_seed(config.seed)
    hidden, count = model.hidden_size, config.lookahead

    def uniform(*shape: int) -> torch.Tensor:
        return (torch.rand(*shape, generator=generator) * 2 - 1) / math.sqrt(shape[-1])

    embeddings = mean_vectors(model.input_embedding.weight, count, generator)
    deep = torch.zeros(len(model.layers), count, hidden) if config.deep else None
    adapters: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    if config.adapter:
        for name, (inputs, outputs) in chosen_linears(model, config).items():
            adapters[name] = (uniform(config.rank, inputs), torch.zeros(outputs, config.rank))
    sampler = None
    if config.sampler:
        inner = config.sampler_inner
        sampler = (uniform(inner, 2 * hidden), torch.zeros(count, inner), torch.zeros(hidden, inner))
    parts = TrainableParts(embeddings, deep, adapters, sampler)
    if init is not None:
        _load(parts, init)
    return parts.to(model.device)


def parts_of(model: LanguageModel, lookahead: LookaheadEmbeddings, bigrams: Bigrams | None = None) -> TrainableParts:
    """A look-ahead file's content as parts, on the model's device, and the model's bigrams to use with them."""
    head = lookahead.sampler
    parts = TrainableParts(
        lookahead.embeddings.float(),
        None if lookahead.deep is None else lookahead.deep.float(),
        {name: (a.down.float(), a.up.float()) for name, a in lookahead.adapters.items()},
        None if head is None else (head.w_in.float(), head.step.float(), head.w_out.float()),
    ).to(model.device)
    parts.bigrams = None if bigrams is None else bigrams.to(model.device)
    return parts


def _load(parts: TrainableParts, init: LookaheadEmbeddings) -> None:
    """Copy what `init` has into `parts`; steps beyond those of `init` start from its last."""

    def fit(source: torch.Tensor, steps: int, dim: int) -> torch.Tensor:
        index = torch.arange(steps).clamp_max(source.shape[dim] - 1)
        return source.float().index_select(dim, index)

    try:
        with torch.no_grad():
            parts.embeddings.copy_(fit(init.embeddings, parts.count, 0))
            if parts.deep is not None and init.deep is not None:
                parts.deep.copy_(fit(init.deep, parts.count, 1))
            for name, module in zip(parts.adapter_names, parts.adapters, strict=True):
                if isinstance(module, Adapter) and name in init.adapters:
                    module.down.copy_(init.adapters[name].down)
                    module.up.copy_(init.adapters[name].up)
            if parts.sampler is not None and init.sampler is not None:
                parts.sampler.w_in.copy_(init.sampler.w_in)
                parts.sampler.step.copy_(fit(init.sampler.step, parts.count, 0))
                parts.sampler.w_out.copy_(init.sampler.w_out)
    except (RuntimeError, PartMismatch) as error:
        raise TrainingError(
            f"The file to continue from does not fit these settings ({error}). Use its own rank and sampler size, "
            "or train without it."
        ) from error
