"""Weight-only quantisation while loading: the layers' weights become small integers, their inputs stay as they are.

A row's result must not depend on the other rows of its pass. Methods that also quantise the inputs of a layer
(bitsandbytes' int8) would make the text depend on the drafts. Decoding is lossless with regard to the quantised model.
Look-ahead files of the original fit it and guess a little worse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from pass_core.models.errors import DeviceUnavailable, PackageMissing

QuantizeChoice = Literal["none", "gguf", "int8", "int4"]
EXTRA = 'pip install "pass-playground[quant]"'
# Bytes of a weight with its scales, a little more than they take.
BYTES_PER_WEIGHT = {"int8": 1.1, "int4": 0.6}


def quantization_config(choice: QuantizeChoice, device: torch.device, dtype: torch.dtype) -> Any:
    """What `from_pretrained` takes as `quantization_config`; None where it loads the weights as they are.

    "gguf" are the blocks of the file that the model came from, as they are: the compiled library takes them, and
    transformers nothing. "int8" on a CPU the compiled library makes from the loaded weights, elsewhere it is torchao's
    weight-only int8; "int4" are bitsandbytes' 4-bit normal floats with scales quantised in turn.

    Raises:
        DeviceUnavailable: unknown choice, or the device cannot do it.
        PackageMissing: the extra is not installed; the message names it.
    """
    if choice == "none":
        return None
    if choice == "gguf":
        if device.type != "cpu":
            raise DeviceUnavailable(
                f"A GGUF file's own blocks are computed on the CPU, and this model would go to {device}. "
                "Choose the CPU, or no quantisation."
            )
        return None
    if choice == "int8" and device.type == "cpu":
        return None
    if choice not in _MAKERS:
        raise DeviceUnavailable(f"“{choice}” is no quantisation. Choose none, gguf, {' or '.join(_MAKERS)}.")
    package, devices, make = _MAKERS[choice]
    if device.type not in devices:
        possible = " or ".join("a CUDA GPU" if d == "cuda" else "the CPU" for d in devices)
        raise DeviceUnavailable(
            f"{choice} weights need {possible}, and this model would go to {device}. "
            "Choose another device, or no quantisation."
        )
    return _made(choice, package, lambda: make(dtype))


def while_loading(dtype: torch.dtype) -> Any:
    """torchao's int8 for `from_pretrained`: never the whole weights in memory.

    Raises:
        PackageMissing: torchao is not installed.
    """
    return _made("int8", "torchao", lambda: _int8(dtype))


def after_loading(model: Any) -> None:
    """torchao's int8 in the layers of a loaded model, for what the compiled library cannot take.

    Raises:
        PackageMissing: torchao is not installed.
    """
    head = model.get_output_embeddings()

    def quantise() -> None:
        import torchao.quantization as torchao  # pyright: ignore[reportMissingImports]

        chosen = torchao.Int8WeightOnlyConfig()
        torchao.quantize_(model, chosen, lambda m, _: isinstance(m, torch.nn.Linear) and m is not head)

    _made("int8", "torchao", quantise)


def _made(choice: str, package: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (ImportError, ValueError) as error:
        # transformers raises ValueError for a package that is too old.
        raise PackageMissing(
            f"{choice} weights need the package {package}, which is missing or does not work here ({error}). "
            f"Install it with {EXTRA}, or choose no quantisation."
        ) from error


def _int8(dtype: torch.dtype) -> Any:
    import torchao.quantization as torchao  # pyright: ignore[reportMissingImports]
    from transformers import TorchAoConfig

    return TorchAoConfig(torchao.Int8WeightOnlyConfig())


def _int4(dtype: torch.dtype) -> Any:
    import bitsandbytes  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


_MAKERS: dict[str, tuple[str, tuple[str, ...], Callable[[torch.dtype], Any]]] = {
    "int8": ("torchao", ("cuda",), _int8),
    "int4": ("bitsandbytes", ("cuda",), _int4),
}
