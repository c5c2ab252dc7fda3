"""Look-ahead embeddings: the trained file, its parts, its checks and its errors.

The file is a safetensors file. Tensors (any floating dtype, bfloat16 when shipped):

- `lookahead` [L, hidden]: the input vectors LA_1..LA_L (always present).
- `deep` [layers, L, hidden]: optional, added to the residual stream of LA_j's row at the input of each layer.
- `adapter.<linear>.down` [rank, in] and `adapter.<linear>.up` [out, rank]: optional low-rank updates
  y = Wx + up(down(x)) of the named linear layer, for look-ahead rows only. `<linear>` is the module's name below
  the base model, such as `layers.3.mlp.up_proj`. The scale is folded into `up`.
- `sampler.in.weight` [inner, 2·hidden], `sampler.step` [L, inner], `sampler.out.weight` [hidden, inner]:
  optional coherent-draft head: z = silu(W_in [rms(h) ; rms(e)] + step_j), h' = h + W_out z, where h is LA_j's hidden
  state after the final norm, e the input embedding of the token right before the drafted one, and
  rms(x) = x / sqrt(mean(x²) + 1e-6). The vocabulary head reads h'.

Metadata (str -> str): `format` "pass-lookahead", `format_version`, `base_model`, `base_fingerprint`, `hidden_size`,
`lookahead`, `training` (a JSON object; see `TrainingSummary`), `parts` (comma separated).
Sources: PaSS, arXiv 2311.13581 (embeddings); arXiv 2507.11851 (gated adapters, sampler head).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pass_core.files import write_atomically
from pass_core.settings import LookaheadPart

FORMAT = "pass-lookahead"
FORMAT_VERSION = 1
SUFFIXES = (".safetensors", ".pt", ".pth", ".npy", ".npz")


class LookaheadError(ValueError):
    """A look-ahead file cannot be used; the message names the cause and the way out."""


class FileNotFound(LookaheadError):
    """There is no such file."""


class NotALookaheadFile(LookaheadError):
    """The file is not of a supported kind, or holds no [L, hidden] tensor."""


class TruncatedFile(LookaheadError):
    """The file is damaged or cut short."""


class UnsupportedVersion(LookaheadError):
    """The file was written by a newer format version."""


class HiddenSizeMismatch(LookaheadError):
    """The embeddings' hidden size is not the model's."""


class LookaheadCountMismatch(LookaheadError):
    """L in the metadata and in the tensors differ, or more steps are asked for than the file has."""


class DtypeMismatch(LookaheadError):
    """The tensor is not of a floating dtype."""


class NonFiniteValues(LookaheadError):
    """The tensors hold NaN or infinity."""


class ModelMismatch(LookaheadError):
    """The file was trained for another model."""


class PartMismatch(LookaheadError):
    """An optional part (deep, adapter, sampler) does not fit the model's layers."""


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What the trainer recorded.

    `acceptance` is the held-out acceptance by draft position (one chain, coupled rule), `accepted_per_iteration`
    the mean number of drafts accepted in a chain of `acceptance`'s length; `command` reproduces the file. `bigrams`
    tells whether the model's own bigrams helped the drafts of these figures.
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

    @classmethod
    def from_json(cls, text: str) -> TrainingSummary:
        try:
            raw: Any = json.loads(text)
            known = {k: raw[k] for k in cls.__dataclass_fields__ if k in raw}
            if "acceptance" in known:
                known["acceptance"] = tuple(float(x) for x in known["acceptance"])
            return cls(**known)
        except (ValueError, TypeError):
            return cls()


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """One low-rank update: down [rank, in], up [out, rank]."""

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True, slots=True)
class SamplerWeights:
    """The coherent-draft head: w_in [inner, 2·hidden], step [L, inner], w_out [hidden, inner]."""

    w_in: torch.Tensor
    step: torch.Tensor
    w_out: torch.Tensor


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
        sampler: the coherent-draft head, or None.
        base_model, base_fingerprint: the model it was trained for; "" when unknown.
        training: the trainer's summary, None for bare tensors and untrained fallbacks.
        origin: the file's path, or a label such as "mean embedding (untrained)".
    """

    embeddings: torch.Tensor
    deep: torch.Tensor | None = None
    adapters: Mapping[str, AdapterWeights] = field(default_factory=dict[str, AdapterWeights])
    sampler: SamplerWeights | None = None
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
        if self.sampler is not None:
            out["sampler.in.weight"] = self.sampler.w_in
            out["sampler.step"] = self.sampler.step
            out["sampler.out.weight"] = self.sampler.w_out
        return out

    def without(self, disabled: frozenset[LookaheadPart]) -> LookaheadEmbeddings:
        """The same file with some parts switched off."""
        if not disabled:
            return self
        return LookaheadEmbeddings(
            embeddings=self.embeddings,
            deep=None if LookaheadPart.DEEP in disabled else self.deep,
            adapters={} if LookaheadPart.ADAPTER in disabled else self.adapters,
            sampler=None if LookaheadPart.SAMPLER in disabled else self.sampler,
            base_model=self.base_model,
            base_fingerprint=self.base_fingerprint,
            training=self.training,
            origin=self.origin,
        )

    def save(self, path: str | Path, dtype: torch.dtype | None = torch.bfloat16) -> None:
        """Write the file atomically.

        Args:
            dtype: what to store; None keeps each tensor's own dtype.
        """
        tensors = {
            n: t.detach().to(device="cpu", dtype=dtype or t.dtype).contiguous().clone()
            for n, t in self.tensors().items()
        }
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

    def check_model(
        self,
        *,
        hidden_size: int,
        layers: int,
        name: str,
        fingerprint: str,
        linears: Mapping[str, Any] | None = None,
    ) -> None:
        """Refuse to be used with a model that it does not fit.

        Args:
            linears: the model's linear modules by name; None leaves the adapters unchecked.

        Raises:
            HiddenSizeMismatch, ModelMismatch, PartMismatch: each names both sides.
        """
        if self.hidden_size != hidden_size:
            raise HiddenSizeMismatch(
                f"These look-ahead embeddings have hidden size {self.hidden_size}, but {name} has {hidden_size}. "
                "Choose a file that was trained for this model, or train one on the Train page."
            )
        if self.base_fingerprint and self.base_fingerprint != fingerprint:
            raise ModelMismatch(
                f"These look-ahead embeddings were trained for {self.base_model or 'another model'} "
                f"(fingerprint {self.base_fingerprint}), but {name} (fingerprint {fingerprint}) is loaded. "
                "Load that model, or train embeddings for this one."
            )
        if self.deep is not None and self.deep.shape[0] != layers:
            raise PartMismatch(
                f"The file's deep vectors are for {self.deep.shape[0]} layers, but {name} has {layers}. "
                "Choose a file that was trained for this model."
            )
        for linear, adapter in self.adapters.items() if linears is not None else ():
            needed = _linear_shape(linears[linear]) if linears and linear in linears else None
            shape = (adapter.up.shape[0], adapter.down.shape[1])
            if shape != needed:
                has = f"has shape {list(needed)} there" if needed else "has no such layer"
                raise PartMismatch(
                    f"The file's adapter of “{linear}” is for shape {list(shape)}, but {name} {has}. "
                    "Choose a file that was trained for this model."
                )


def _linear_shape(module: Any) -> tuple[int, int]:
    """(outputs, inputs) of an nn.Linear, or of GPT-2's Conv1D, which keeps its weight the other way round."""
    if hasattr(module, "out_features"):  # a quantised weight has another shape
        return int(module.out_features), int(module.in_features)
    rows, columns = module.weight.shape
    return (int(columns), int(rows)) if type(module).__name__ == "Conv1D" else (int(rows), int(columns))


def load_lookahead(path: str | Path) -> LookaheadEmbeddings:
    """Read a look-ahead file: our format, or a bare [L, hidden] tensor as "base model unknown".

    Bare tensors may be .safetensors (one two-dimensional tensor, or one named `lookahead`), .pt/.pth (a tensor or a
    dict with one; read with `weights_only=True`), .npy or .npz (`allow_pickle=False`).

    Raises:
        LookaheadError: a subclass that names what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFound(f"There is no file {path}. Choose an existing {', '.join(SUFFIXES)} file.")
    if path.suffix not in SUFFIXES:
        raise NotALookaheadFile(
            f"{path.name} is not a look-ahead file: expected one of {', '.join(SUFFIXES)}, "
            f"got “{path.suffix or 'no suffix'}”."
        )
    if path.stat().st_size == 0:
        raise TruncatedFile(f"{path.name} is empty. Download or copy it again.")
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
        if metadata.get("format") == FORMAT:
            return _from_format(path, tensors, metadata)
    elif path.suffix in (".pt", ".pth"):
        tensors = _read_torch(path)
    else:
        tensors = _read_numpy(path)
    return _from_bare(path, tensors)


def mean_embedding(
    input_embeddings: torch.Tensor, count: int, *, base_model: str = "", base_fingerprint: str = "", seed: int = 0
) -> LookaheadEmbeddings:
    """The training-free fallback: the mean input embedding with a little noise, `count` times.

    Args:
        input_embeddings: [vocabulary, hidden], any floating dtype and device.
    """
    table = input_embeddings.detach().float()
    mean, std = table.mean(0).cpu(), table.std(0).cpu()
    noise = torch.randn(count, table.shape[1], generator=torch.Generator().manual_seed(seed))
    return LookaheadEmbeddings(
        embeddings=mean + 0.1 * std * noise,
        base_model=base_model,
        base_fingerprint=base_fingerprint,
        origin="mean embedding (untrained)",
    )


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as f:
            return {name: f.get_tensor(name) for name in f.keys()}, dict(f.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise TruncatedFile(
            f"{path.name} is damaged, cut short or no safetensors file ({error}). Download or copy it again."
        ) from error


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    try:
        raw: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError) as error:  # a broken zip archive
        raise TruncatedFile(
            f"{path.name} is damaged, cut short or no PyTorch file ({_first_line(error)}). Download or copy it again."
        ) from error
    except Exception as error:  # unpickling raises many kinds, all meaning that the file cannot be read safely
        raise NotALookaheadFile(
            f"{path.name} could not be read as plain tensors (files that carry code are refused): "
            f"{_first_line(error)}. "
            "Save the tensor alone with torch.save(tensor, file)."
        ) from error
    if isinstance(raw, torch.Tensor):
        return {"lookahead": raw}
    if isinstance(raw, dict):
        return {str(k): v for k, v in raw.items() if isinstance(v, torch.Tensor)}
    raise NotALookaheadFile(f"{path.name} holds a {type(raw).__name__}, not a tensor. Save a tensor of [L, hidden].")


def _read_numpy(path: Path) -> dict[str, torch.Tensor]:
    import numpy as np

    try:
        raw: Any = np.load(path, allow_pickle=False)
        arrays: dict[str, Any] = {"lookahead": raw} if isinstance(raw, np.ndarray) else {k: raw[k] for k in raw.files}
    except Exception as error:  # zipfile and numpy errors alike mean an unreadable file
        if "allow_pickle" in str(error):
            raise NotALookaheadFile(
                f"{path.name} holds Python objects, or is no NumPy file; files that can carry code are refused. "
                "Save the array alone with numpy.save."
            ) from error
        raise TruncatedFile(
            f"{path.name} is damaged, cut short or no NumPy file ({_first_line(error)}). Download or copy it again."
        ) from error
    out: dict[str, torch.Tensor] = {}
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise DtypeMismatch(
                f"{path.name}: “{name}” has dtype {array.dtype}, but look-ahead embeddings are floating-point numbers."
            )
        if array.dtype.itemsize > 8 or not array.dtype.isnative:
            array = array.astype(np.float32)  # long double or foreign byte order, which torch does not know
        out[name] = torch.from_numpy(np.ascontiguousarray(array))
    return out


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _check_tensor(path: Path, name: str, tensor: torch.Tensor) -> None:
    if not tensor.is_floating_point():
        raise DtypeMismatch(
            f"{path.name}: “{name}” has dtype {str(tensor.dtype).removeprefix('torch.')}, "
            "but look-ahead embeddings are floating-point numbers."
        )
    if not bool(torch.isfinite(tensor.float()).all()):
        bad = int((~torch.isfinite(tensor.float())).sum())
        raise NonFiniteValues(
            f"{path.name}: “{name}” holds {bad} values that are NaN or infinite. The training diverged or the "
            "file is damaged; use another file, or train again with a lower learning rate."
        )


def _from_bare(path: Path, tensors: Mapping[str, torch.Tensor]) -> LookaheadEmbeddings:
    tensor = tensors.get("lookahead")
    if tensor is None:
        two_dimensional = [t for t in tensors.values() if t.ndim == 2]
        if len(two_dimensional) != 1:
            raise NotALookaheadFile(
                f"{path.name} holds {len(tensors)} tensors and none is named “lookahead”. "
                "A look-ahead file has one tensor of [L, hidden]."
            )
        tensor = two_dimensional[0]
    _check_shape(path, tensor)
    _check_tensor(path, "lookahead", tensor)
    return LookaheadEmbeddings(embeddings=tensor.detach().clone(), origin=str(path))


def _check_shape(path: Path, tensor: torch.Tensor) -> None:
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise NotALookaheadFile(
            f"{path.name}: the look-ahead tensor has shape {list(tensor.shape)}, but [L, hidden] is needed."
        )
    if tensor.shape[0] > 64:
        raise NotALookaheadFile(
            f"{path.name}: {tensor.shape[0]} look-ahead steps are more than the 64 that make sense; "
            "is this really a [L, hidden] tensor?"
        )


def _from_format(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> LookaheadEmbeddings:
    version = metadata.get("format_version", "")
    if not version.isdigit() or int(version) > FORMAT_VERSION:
        raise UnsupportedVersion(
            f"{path.name} has format version {version or 'unknown'}; this program reads up to {FORMAT_VERSION}. "
            "Update the program."
        )
    embeddings = tensors.get("lookahead")
    if embeddings is None:
        raise NotALookaheadFile(f"{path.name} has no tensor “lookahead”. Train or download it again.")
    _check_shape(path, embeddings)
    for name, tensor in tensors.items():
        _check_tensor(path, name, tensor)
    count, hidden = embeddings.shape
    if metadata.get("lookahead", str(count)) != str(count):
        raise LookaheadCountMismatch(
            f"{path.name}: its header says L = {metadata['lookahead']}, but its tensor has {count} steps. "
            "The file was altered; train or download it again."
        )
    if metadata.get("hidden_size", str(hidden)) != str(hidden):
        raise HiddenSizeMismatch(
            f"{path.name}: its header says hidden size {metadata['hidden_size']}, but its tensor has {hidden}. "
            "The file was altered; train or download it again."
        )
    training = metadata.get("training")
    return LookaheadEmbeddings(
        embeddings=embeddings,
        deep=_deep(path, tensors, count, hidden),
        adapters=_adapters(path, tensors),
        sampler=_sampler(path, tensors, count, hidden),
        base_model=metadata.get("base_model", ""),
        base_fingerprint=metadata.get("base_fingerprint", ""),
        training=TrainingSummary.from_json(training) if training else None,
        origin=str(path),
    )


def _deep(path: Path, tensors: Mapping[str, torch.Tensor], count: int, hidden: int) -> torch.Tensor | None:
    deep = tensors.get("deep")
    if deep is not None and (deep.ndim != 3 or tuple(deep.shape[1:]) != (count, hidden)):
        raise PartMismatch(
            f"{path.name}: “deep” has shape {list(deep.shape)}, but [layers, {count}, {hidden}] is needed."
        )
    return deep


def _adapters(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, AdapterWeights]:
    out: dict[str, AdapterWeights] = {}
    for key, down in tensors.items():
        if not (key.startswith("adapter.") and key.endswith(".down")):
            continue
        name = key.removeprefix("adapter.").removesuffix(".down")
        up = tensors.get(f"adapter.{name}.up")
        if up is None or down.ndim != 2 or up.ndim != 2 or up.shape[1] != down.shape[0]:
            raise PartMismatch(f"{path.name}: the adapter of “{name}” is incomplete or its two halves do not fit.")
        out[name] = AdapterWeights(down, up)
    return out


def _sampler(path: Path, tensors: Mapping[str, torch.Tensor], count: int, hidden: int) -> SamplerWeights | None:
    names = ("sampler.in.weight", "sampler.step", "sampler.out.weight")
    present = [n for n in names if n in tensors]
    if not present:
        return None
    if len(present) != 3:
        raise PartMismatch(f"{path.name}: the sampler head lacks {', '.join(n for n in names if n not in present)}.")
    w_in, step, w_out = (tensors[n] for n in names)
    inner = w_in.shape[0]
    fits = tuple(w_in.shape) == (inner, 2 * hidden) and tuple(step.shape) == (count, inner)
    if not (fits and tuple(w_out.shape) == (hidden, inner) and math.prod(w_in.shape) > 0):
        raise PartMismatch(f"{path.name}: the sampler head's shapes do not fit L = {count} and hidden size {hidden}.")
    return SamplerWeights(w_in, step, w_out)
