"""The look-ahead file: what it must hold, checked from its header before any value is read.

The file is a safetensors file. Tensors (any floating dtype, bfloat16 when shipped):

- `lookahead` [L, hidden]: the input vectors LA_1..LA_L (always present).
- `deep` [layers, L, hidden]: optional, added to the residual stream of LA_j's row at the input of each layer.
- `adapter.<linear>.down` [rank, in] and `adapter.<linear>.up` [out, rank]: optional low-rank updates
  y = Wx + up(down(x)) of the named linear layer, for look-ahead rows only. `<linear>` is the module's name below
  the base model, such as `layers.3.mlp.up_proj`. The scale is folded into `up`.
- `sampler.in.weight` [inner, 2·hidden], `sampler.step` [L, inner], `sampler.out.weight` [hidden, inner]:
  optional sampler head: z = silu(W_in [rms(h) ; rms(e)] + step_j), h' = h + W_out z, where h is LA_j's hidden
  state after the final norm, e the input embedding of the token right before the drafted one, and
  rms(x) = x / sqrt(mean(x²) + 1e-6). The lm_head reads h'.
- `state.guess.in.weight` [inner, 2·hidden], `state.guess.step` [D, inner], `state.guess.out.weight` [hidden, inner],
  and the same three of `state.fit` with an inner size of its own: optional state head of D depths
  (`pass_core.lookahead.state_head`). `state.vocabulary` [n], int32: the tokens that it drafts, rising.

Metadata (str -> str): `format` "pass-lookahead", `format_version`, `base_model`, `base_fingerprint`, `hidden_size`,
`lookahead`, `training` (a JSON object; see `TrainingSummary`), `parts` (comma separated).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from pass_core.lookahead.embeddings import (
    FORMAT,
    FORMAT_VERSION,
    AdapterWeights,
    LookaheadEmbeddings,
    SamplerWeights,
    StateHeadWeights,
    TrainingSummary,
)
from pass_core.lookahead.errors import (
    DtypeMismatch,
    HiddenSizeMismatch,
    LookaheadCountMismatch,
    NonFiniteValues,
    NotALookaheadFile,
    PartMismatch,
    TooLarge,
    UnsupportedVersion,
)
from pass_core.lookahead.readers import LARGEST_BYTES, SUFFIXES, Content, Stored, opened, read

__all__ = ["SUFFIXES", "load_lookahead"]

MOST_STEPS = 64
MOST_HIDDEN = 131_072
MOST_TENSORS = 10_000
_CHUNK = 1 << 22

_HEADS = ("sampler", "state.guess", "state.fit")
_VOCABULARY = "state.vocabulary"


def load_lookahead(path: str | Path) -> LookaheadEmbeddings:
    """Read a look-ahead file: our format, or a bare [L, hidden] tensor as "base model unknown".

    Bare tensors may be .safetensors (one two-dimensional tensor, or one named `lookahead`), .pt/.pth (a tensor or a
    dict with one; read with `weights_only=True`), .npy or .npz (`allow_pickle=False`).

    Raises:
        LookaheadError: a subclass that names what is wrong.
    """
    path = Path(path)
    with opened(path) as content:
        if path.suffix.lower() == ".safetensors" and content.metadata.get("format") == FORMAT:
            return _from_format(path, content)
        return _from_bare(path, content)


def _from_bare(path: Path, content: Content) -> LookaheadEmbeddings:
    header = content.tensors.get("lookahead")
    if header is None:
        two_dimensional = [t for t in content.tensors.values() if len(t.shape) == 2]
        if len(two_dimensional) != 1:
            raise NotALookaheadFile(
                f"{path.name} holds {len(content.tensors)} tensors and none is named “lookahead”. "
                "A look-ahead file has one tensor of [L, hidden]."
            )
        header = two_dimensional[0]
    _check_embeddings(path, header)
    _check_header(path, {"lookahead": header})
    return LookaheadEmbeddings(embeddings=_values(path, "lookahead", header), origin=str(path))


def _from_format(path: Path, content: Content) -> LookaheadEmbeddings:
    metadata = content.metadata
    _check_version(path, metadata.get("format_version", ""))
    headers = {name: t for name, t in content.tensors.items() if _is_ours(name)}
    embeddings = headers.get("lookahead")
    if embeddings is None:
        raise NotALookaheadFile(f"{path.name} has no tensor “lookahead”. Train or download it again.")
    _check_embeddings(path, embeddings)
    count, hidden = embeddings.shape
    _check_metadata(path, metadata, count, hidden)
    _check_header(path, headers)
    _check_deep(path, headers.get("deep"), count, hidden)
    adapters = _adapter_names(path, headers)
    heads = {name: _head_steps(path, headers, name, hidden) for name in _HEADS}
    if heads["sampler"] not in (None, count):
        raise PartMismatch(f"{path.name}: the sampler head has {heads['sampler']} steps, but L = {count}.")
    if heads["state.guess"] != heads["state.fit"] or (heads["state.fit"] is None) != (_VOCABULARY not in headers):
        raise PartMismatch(f"{path.name}: the state head is incomplete, or its two layers have different depths.")
    training = metadata.get("training")
    summary = _summary(path, training) if training else None

    values = {name: _values(path, name, header) for name, header in headers.items()}
    if _VOCABULARY in values:
        _check_vocabulary(path, values[_VOCABULARY])
    guess, fit = _head(values, "state.guess"), _head(values, "state.fit")
    return LookaheadEmbeddings(
        embeddings=values["lookahead"],
        deep=values.get("deep"),
        adapters={n: AdapterWeights(values[f"adapter.{n}.down"], values[f"adapter.{n}.up"]) for n in adapters},
        sampler=_head(values, "sampler"),
        state=None if guess is None or fit is None else StateHeadWeights(guess, fit, values[_VOCABULARY].long()),
        base_model=metadata.get("base_model", ""),
        base_fingerprint=metadata.get("base_fingerprint", ""),
        training=summary,
        origin=str(path),
    )


def _is_ours(name: str) -> bool:
    return (
        name in ("lookahead", "deep", _VOCABULARY)
        or name.startswith("adapter.")
        or any(name in _tensors(h) for h in _HEADS)
    )


def _tensors(head: str) -> tuple[str, str, str]:
    """The names of a head's tensors."""
    return f"{head}.in.weight", f"{head}.step", f"{head}.out.weight"


def _head(values: Mapping[str, torch.Tensor], name: str) -> SamplerWeights | None:
    names = _tensors(name)
    return SamplerWeights(*(values[n] for n in names)) if names[0] in values else None


# --- from the header


def _check_version(path: Path, version: str) -> None:
    if not re.fullmatch("[0-9]{1,6}", version) or not 1 <= int(version) <= FORMAT_VERSION:
        raise UnsupportedVersion(
            f"{path.name} has format version {version[:20] or 'unknown'}; this program reads up to {FORMAT_VERSION}. "
            "Update the program."
        )


def _check_embeddings(path: Path, header: Stored) -> None:
    if len(header.shape) != 2 or 0 in header.shape:
        raise NotALookaheadFile(
            f"{path.name}: the look-ahead tensor has shape {list(header.shape)}, but [L, hidden] is needed."
        )
    if header.shape[0] > MOST_STEPS:
        raise NotALookaheadFile(
            f"{path.name}: {header.shape[0]} look-ahead steps are more than the {MOST_STEPS} that make sense; "
            "is this really a [L, hidden] tensor?"
        )
    if header.shape[1] > MOST_HIDDEN:
        raise TooLarge(
            f"{path.name}: no model has a hidden size of {header.shape[1]}; is this really a [L, hidden] tensor?"
        )


def _check_header(path: Path, headers: Mapping[str, Stored]) -> None:
    """Dtypes, and the size of all tensors that will be read."""
    if len(headers) > MOST_TENSORS:
        raise TooLarge(f"{path.name} has {len(headers)} tensors, which no look-ahead file has.")
    for name, header in headers.items():
        if name == _VOCABULARY:
            if header.dtype != "int32" or len(header.shape) != 1 or not header.shape[0]:
                raise PartMismatch(f"{path.name}: “{name}” is no list of int32 token ids. Train the file again.")
        elif not header.floating:
            raise DtypeMismatch(
                f"{path.name}: “{name}” has dtype {header.dtype}, "
                "but look-ahead embeddings are floating-point numbers of 8 to 64 bits."
            )
    size = sum(header.bytes for header in headers.values())
    if size > LARGEST_BYTES:
        raise TooLarge(
            f"{path.name} holds {size / 1e9:.1f} GB of tensors; look-ahead files have at most "
            f"{LARGEST_BYTES / 1e9:.0f} GB. Choose another file."
        )


def _check_metadata(path: Path, metadata: Mapping[str, str], count: int, hidden: int) -> None:
    if metadata.get("lookahead", str(count)) != str(count):
        raise LookaheadCountMismatch(
            f"{path.name}: its header says L = {metadata['lookahead'][:20]}, but its tensor has {count} steps. "
            "The file was altered; train or download it again."
        )
    if metadata.get("hidden_size", str(hidden)) != str(hidden):
        raise HiddenSizeMismatch(
            f"{path.name}: its header says hidden size {metadata['hidden_size'][:20]}, but its tensor has {hidden}. "
            "The file was altered; train or download it again."
        )


def _check_deep(path: Path, deep: Stored | None, count: int, hidden: int) -> None:
    if deep is not None and (len(deep.shape) != 3 or deep.shape[1:] != (count, hidden) or deep.shape[0] == 0):
        raise PartMismatch(
            f"{path.name}: “deep” has shape {list(deep.shape)}, but [layers, {count}, {hidden}] is needed."
        )


def _adapter_names(path: Path, headers: Mapping[str, Stored]) -> list[str]:
    """The linears that have an adapter."""
    keys = [k for k in headers if k.startswith("adapter.")]
    names = dict.fromkeys(re.sub(r"\.(down|up)$", "", k.removeprefix("adapter.")) for k in keys)
    for name in names:
        down, up = headers.get(f"adapter.{name}.down"), headers.get(f"adapter.{name}.up")
        a, b = (() if half is None else half.shape for half in (down, up))
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in a + b:
            raise PartMismatch(f"{path.name}: the adapter of “{name}” is incomplete or its two halves do not fit.")
    return list(names)


def _head_steps(path: Path, headers: Mapping[str, Stored], name: str, hidden: int) -> int | None:
    """How many steps a head has; None where the file has no such head."""
    names = _tensors(name)
    missing = [n for n in names if n not in headers]
    if len(missing) == len(names):
        return None
    title = "sampler head" if name == "sampler" else "state head"
    if missing:
        raise PartMismatch(f"{path.name}: the {title} lacks {', '.join(missing)}.")
    w_in, step, w_out = (headers[n].shape for n in names)
    inner, steps = (w_in[0] if w_in else 0), (step[0] if step else 0)
    fits = (w_in, step, w_out) == ((inner, 2 * hidden), (steps, inner), (hidden, inner))
    if not fits or inner == 0 or not 0 < steps <= MOST_STEPS:
        raise PartMismatch(f"{path.name}: the {title}'s shapes do not fit hidden size {hidden}.")
    return steps


def _check_vocabulary(path: Path, ids: torch.Tensor) -> None:
    if int(ids[0]) < 0 or not bool((ids[1:] > ids[:-1]).all()):
        raise PartMismatch(f"{path.name}: the token ids of “{_VOCABULARY}” do not rise. Download or train it again.")


def _summary(path: Path, text: str) -> TrainingSummary:
    """The trainer's record. One that is no JSON object, and an acceptance that is no list, count as not recorded.

    Raises:
        NotALookaheadFile: a field is of another type than the trainer writes.
    """
    try:
        raw: Any = json.loads(text)
    except (ValueError, RecursionError):
        return TrainingSummary()
    if not isinstance(raw, dict):
        return TrainingSummary()
    fields = cast(dict[str, object], raw)
    known: dict[str, Any] = {}
    for name, default in ((n, getattr(TrainingSummary(), n)) for n in TrainingSummary.__dataclass_fields__):
        if name not in fields:
            continue
        value = fields[name]
        if isinstance(default, tuple):
            items = cast(list[object], value) if isinstance(value, list) else []
            known[name] = tuple(_number(x) for x in items) if all(_is_number(x) for x in items) else ()
        elif isinstance(default, float) and _is_number(value):
            known[name] = _number(value)
        elif (isinstance(default, (str, bool)) and type(value) is type(default)) or (
            type(default) is int and type(value) is int and 0 <= value < 2**63
        ):
            known[name] = value
        else:
            raise NotALookaheadFile(
                f"{path.name}: “{name}” in its training record is {json.dumps(value)[:60]}, which the trainer never "
                "writes. The file was altered; train or download it again."
            )
    return TrainingSummary(**known)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _number(value: Any) -> float:
    return float(value)


# --- the values


def _values(path: Path, name: str, header: Stored) -> torch.Tensor:
    tensor = read(path, name, header)
    bad = sum(int((~torch.isfinite(c.float())).sum()) for c in tensor.reshape(-1).split(_CHUNK))
    if bad:
        raise NonFiniteValues(
            f"{path.name}: “{name}” holds {bad} values that are NaN or infinite. The training diverged or the "
            "file is damaged; use another file, or train again with a lower learning rate."
        )
    return tensor
