"""What transformers does several times while it reads a GGUF file is done once, and its slowest loops are shortened.

For a small model with a large vocabulary that is most of a conversion's time. What it reads stays the same.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Generator
from typing import Any

import numpy as np

_STRING = 8  # GGUF's number of the type


@contextlib.contextmanager
def shared_parts() -> Generator[None]:
    """Inside, files are parsed once, their metadata are read once, and tables of tensor names are built once.

    Where another version of transformers lacks one of these functions, only its time is not saved.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils

    package, reading = gguf, modeling_gguf_pytorch_utils
    reader: Any = functools.lru_cache(maxsize=1)(_reader_class())
    quicker: list[tuple[Any, str, Any]] = [
        (package, "GGUFReader", lambda path, *_, **__: reader(str(path))),
        (package, "get_tensor_name_map", functools.lru_cache(maxsize=4)(gguf.get_tensor_name_map)),
    ]
    for name, make in (("_gguf_parse_value", _parses_strings), ("load_gguf_checkpoint", _reads_metadata_once)):
        genuine = getattr(reading, name, None)
        if genuine is not None:
            quicker.append((reading, name, make(genuine)))
    before = [(module, name, getattr(module, name)) for module, name, _ in quicker]
    try:
        for module, name, new in quicker:
            setattr(module, name, new)
        yield
    finally:
        for module, name, old in before:
            setattr(module, name, old)


def _reader_class() -> Any:
    """gguf's reader with the file as a plain array: slices of np.memmap take most of its time."""
    import gguf

    class Reader(gguf.GGUFReader):
        @property
        def data(self) -> np.ndarray:
            return self._plain

        @data.setter
        def data(self, mapped: np.ndarray) -> None:
            self._plain = mapped.view(np.ndarray)

    return Reader


def _parses_strings(genuine: Any) -> Any:
    """transformers makes a list of the numbers of every string's bytes."""

    def parse(value: Any, types: Any) -> Any:
        kind = types[-1] if isinstance(types, list) and types else types
        return value.tobytes().decode() if kind == _STRING else genuine(value, types)

    return parse


def _reads_metadata_once(genuine: Any) -> Any:
    """The config, the model and the tokenizer ask for the same metadata, each for a copy of their own."""
    kept: dict[str, Any] = {}

    def load(path: Any, return_tensors: bool = False, **more: Any) -> Any:
        if return_tensors:
            return genuine(path, return_tensors=True, **more)
        key = str(path)
        if key not in kept:
            kept[key] = genuine(path, **more)
        return copy.deepcopy(kept[key])

    return load
