"""Look-ahead embeddings and the other trained parts, as they are used; `pass_core.lookahead.format` reads them.

Sources: PaSS, arXiv 2311.13581 (embeddings); arXiv 2507.11851 (gated adapters, sampler head).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save

from pass_core.files import write_atomically
from pass_core.lookahead.errors import HiddenSizeMismatch, ModelMismatch, PartMismatch
from pass_core.settings import FALLBACK_LOOKAHEAD, LookaheadPart

FORMAT = "pass-lookahead"
FORMAT_VERSION = 1


class FittingModel(Protocol):
    """What `LookaheadEmbeddings.check` asks of a model; `pass_core.models.language_model.LanguageModel` has it."""

    name: str
    fingerprint: str

    @property
    def hidden_size(self) -> int: ...
    @property
    def vocabulary_size(self) -> int: ...
    @property
    def layers(self) -> Sequence[Any]: ...
    def linears(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What the trainer recorded.

    `acceptance` is the held-out acceptance by draft position (one chain, coupled rule), `accepted_per_iteration`
    the mean number of drafts accepted in a chain of `acceptance`'s length; `command` reproduces the file. `bigrams`
    says whether the model's own bigrams helped the drafts of these figures. `state_acceptance` is how often the state
    head's draft at each depth is the target's token, accepted before or not (held-out, closed form); `state_command`
    made that head.
    """

    steps: int = 0
    tokens: int = 0
    data: str = ""
    command: str = ""
    acceptance: tuple[float, ...] = ()
    accepted_per_iteration: float = 0.0
    temperature: float = 0.8
    top_k: int = 10
    bigrams: bool = False
    state_acceptance: tuple[float, ...] = ()
    state_command: str = ""


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """One low-rank update: down [rank, in], up [out, rank]."""

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True, slots=True)
class SamplerWeights:
    """The sampler head: w_in [inner, 2·hidden], step [L, inner], w_out [hidden, inner]."""

    w_in: torch.Tensor
    step: torch.Tensor
    w_out: torch.Tensor


@dataclass(frozen=True, slots=True)
class StateHeadWeights:
    """The state head (`pass_core.lookahead.state_head`): its guess and its fit, [D, inner] steps each, and the tokens
    that it drafts, int64 [n], rising."""

    guess: SamplerWeights
    fit: SamplerWeights
    vocabulary: torch.Tensor

    @property
    def depth(self) -> int:
        """D, how deep it drafts."""
        return int(self.guess.step.shape[0])


@dataclass(frozen=True, slots=True)
class PartInfo:
    """Size of one part, for display."""

    name: str
    parameters: int
    bytes: int


@dataclass(frozen=True)
class LookaheadEmbeddings:
    """Look-ahead vectors and the optional trained parts.

    Attributes:
        embeddings: [L, hidden], floating.
        deep: [layers, L, hidden] or None.
        adapters: linear module name -> low-rank update (empty when the file has none).
        sampler: the sampler head, or None.
        state: the state head, or None.
        base_model, base_fingerprint: the model it was trained for; "" when unknown.
        training: the trainer's summary, None for bare tensors and untrained fallbacks.
        origin: the file's path, or a label such as "mean embedding (untrained)".
    """

    embeddings: torch.Tensor
    deep: torch.Tensor | None = None
    adapters: Mapping[str, AdapterWeights] = field(default_factory=dict[str, AdapterWeights])
    sampler: SamplerWeights | None = None
    state: StateHeadWeights | None = None
    base_model: str = ""
    base_fingerprint: str = ""
    training: TrainingSummary | None = None
    origin: str = ""

    @property
    def count(self) -> int:
        """L, the number of look-ahead steps."""
        return int(self.embeddings.shape[0])

    @property
    def hidden_size(self) -> int:
        """Length of one look-ahead vector."""
        return int(self.embeddings.shape[1])

    @property
    def trained(self) -> bool:
        """Whether this came from a file (as opposed to the training-free fallback)."""
        return bool(self.base_fingerprint) and self.training is not None

    def parts(self) -> tuple[PartInfo, ...]:
        """The parts present, embeddings first, each with parameter count and bytes."""
        groups: dict[str, list[torch.Tensor]] = {}
        for name, tensor in self.tensors().items():
            head = name.split(".", 1)[0]
            groups.setdefault("embeddings" if head == "lookahead" else head, []).append(tensor)
        return tuple(
            PartInfo(name, sum(t.numel() for t in ts), sum(t.numel() * t.element_size() for t in ts))
            for name, ts in groups.items()
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors under the names of the file format."""
        out = {"lookahead": self.embeddings}
        if self.deep is not None:
            out["deep"] = self.deep
        for name, adapter in self.adapters.items():
            out[f"adapter.{name}.down"] = adapter.down
            out[f"adapter.{name}.up"] = adapter.up
        heads = {"sampler": self.sampler}
        if self.state is not None:
            heads |= {"state.guess": self.state.guess, "state.fit": self.state.fit}
        for name, head in heads.items():
            if head is not None:
                out |= {f"{name}.in.weight": head.w_in, f"{name}.step": head.step, f"{name}.out.weight": head.w_out}
        if self.state is not None:
            out["state.vocabulary"] = self.state.vocabulary.to(torch.int32)
        return out

    def without(self, disabled: frozenset[LookaheadPart]) -> LookaheadEmbeddings:
        """The same file with some parts switched off."""
        if not disabled:
            return self
        return replace(
            self,
            deep=None if LookaheadPart.DEEP in disabled else self.deep,
            adapters={} if LookaheadPart.ADAPTER in disabled else self.adapters,
            sampler=None if LookaheadPart.SAMPLER in disabled else self.sampler,
            state=None if LookaheadPart.STATE in disabled else self.state,
        )

    def save(self, path: str | Path, dtype: torch.dtype | None = torch.bfloat16) -> None:
        """Write the file atomically.

        Args:
            dtype: what to store, token ids apart; None keeps each tensor's own dtype.

        Raises:
            WriteError: the older file, if any, is unchanged.
        """
        tensors = {
            n: t.detach().to(device="cpu", dtype=dtype if dtype and t.is_floating_point() else t.dtype)
            for n, t in self.tensors().items()
        }
        tensors = {n: t.contiguous().clone() for n, t in tensors.items()}
        metadata = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "base_model": self.base_model,
            "base_fingerprint": self.base_fingerprint,
            "hidden_size": str(self.hidden_size),
            "lookahead": str(self.count),
            "parts": ",".join(p.name for p in self.parts()),
        }
        if self.training is not None:
            metadata["training"] = json.dumps(asdict(self.training))
        write_atomically(path, save(tensors, metadata))

    def check(self, model: FittingModel) -> None:
        """Refuse to be used with a model that it does not fit.

        Raises:
            HiddenSizeMismatch, ModelMismatch, PartMismatch: each names both sides.
        """
        if self.hidden_size != model.hidden_size:
            raise HiddenSizeMismatch(
                f"These look-ahead embeddings have hidden size {self.hidden_size}, but {model.name} has "
                f"{model.hidden_size}. Choose a file that was trained for this model, or train one on the Train page."
            )
        if self.base_fingerprint and self.base_fingerprint != model.fingerprint:
            raise ModelMismatch(
                f"These look-ahead embeddings were trained for {self.base_model or 'another model'} "
                f"(fingerprint {self.base_fingerprint}), but {model.name} (fingerprint {model.fingerprint}) is loaded. "
                "Load that model, or train embeddings for this one."
            )
        last = -1 if self.state is None else int(self.state.vocabulary[-1])
        if last >= model.vocabulary_size:
            raise PartMismatch(
                f"The file's state head drafts token {last}, but {model.name} has {model.vocabulary_size} tokens. "
                "Choose a file that was trained for this model."
            )
        if self.deep is not None and self.deep.shape[0] != len(model.layers):
            raise PartMismatch(
                f"The file's deep vectors are for {self.deep.shape[0]} layers, but {model.name} has "
                f"{len(model.layers)}. Choose a file that was trained for this model."
            )
        linears = model.linears() if self.adapters else {}
        for linear, adapter in self.adapters.items():
            needed = _linear_shape(linears[linear]) if linear in linears else None
            shape = (adapter.up.shape[0], adapter.down.shape[1])
            if shape != needed:
                has = f"has shape {list(needed)} there" if needed else "has no such layer"
                raise PartMismatch(
                    f"The file's adapter of “{linear}” is for shape {list(shape)}, but {model.name} {has}. "
                    "Choose a file that was trained for this model."
                )


def _linear_shape(module: Any) -> tuple[int, int]:
    """(outputs, inputs) of an nn.Linear, or of GPT-2's Conv1D, which keeps its weight the other way round."""
    if hasattr(module, "out_features"):  # a quantised weight has another shape
        return int(module.out_features), int(module.in_features)
    rows, columns = module.weight.shape
    return (int(columns), int(rows)) if type(module).__name__ == "Conv1D" else (int(rows), int(columns))


def mean_vectors(input_embeddings: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Where training starts and what the fallback is: the mean input embedding with a little noise, `count` times.

    Args:
        input_embeddings: [vocabulary, hidden], any floating dtype and device.

    Returns:
        [count, hidden], float32 on the CPU.
    """
    table = input_embeddings.detach().float()
    mean, std = table.mean(0).cpu(), table.std(0).cpu()
    return mean + 0.1 * std * torch.randn(count, table.shape[1], generator=generator)


def mean_embedding(
    input_embeddings: torch.Tensor,
    count: int = FALLBACK_LOOKAHEAD,
    *,
    base_model: str = "",
    base_fingerprint: str = "",
    seed: int = 0,
) -> LookaheadEmbeddings:
    """The training-free fallback: `mean_vectors`, labelled untrained.

    Args:
        input_embeddings: [vocabulary, hidden], any floating dtype and device.
    """
    return LookaheadEmbeddings(
        embeddings=mean_vectors(input_embeddings, count, torch.Generator().manual_seed(seed)),
        base_model=base_model,
        base_fingerprint=base_fingerprint,
        origin="mean embedding (untrained)",
    )
