"""A name or path becomes a ready LanguageModel; `unload` gives its memory back."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from pass_core.models import catalog
from pass_core.models.capabilities import examine
from pass_core.models.errors import DeviceUnavailable, ModelDamaged, ModelError, ModelTooLarge, ModelUnsupported
from pass_core.models.fetch import fetch
from pass_core.models.language_model import LanguageModel, fingerprint
from pass_core.models.quantize import BYTES_PER_WEIGHT, QuantizeChoice, quantization_config
from pass_core.models.storage import read_receipt
from pass_core.models.stored import stored_fingerprint
from pass_core.progress import Cancelled, CancelToken, ProgressCallback, ProgressReporter

DeviceChoice = str  # "auto", "cpu", "cuda", "cuda:1", "mps"
DtypeChoice = Literal["auto", "float32", "bfloat16", "float16"]

_DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endofturn|>")
_HEADROOM = 1.05  # buffers and fragmentation beside the weights
_hook_lock = threading.Lock()


def load_model(
    source: str | Path | None = None,
    *,
    device: DeviceChoice = "auto",
    dtype: DtypeChoice = "auto",
    quantize: QuantizeChoice = "none",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> LanguageModel:
    """Load a catalog name, Hugging Face id, local directory or GGUF file; None is the default model.

    What is not on this machine yet is fetched (and converted) first; later loads need no network.

    Args:
        device: "auto" prefers CUDA, then MPS, then the CPU. What does not fit into one CUDA GPU is spread over all, and
            over main memory where they are too small together (slow).
        dtype: "auto" is bfloat16 where the device computes it fast, else float16 (GPU) or float32 (CPU).
        quantize: weights of the layers as small integers, see `pass_core.models.quantize` (extra "quant").

    Raises:
        Cancelled: the token was set.
        ModelError: a subclass; the message is a plain sentence with the way out.
    """
    target, number = choose_device(device), choose_dtype(dtype, device)
    small = _Quantized(quantize, quantization_config(quantize, target, number))
    folder = fetch(source, progress=progress, cancel=cancel)
    if cancel is not None:
        cancel.raise_if_cancelled()
    with _plain_errors(folder):
        return _load(source, folder, target, number, small, progress, cancel)


def choose_device(device: DeviceChoice = "auto") -> torch.device:
    """The device that a choice means on this machine.

    Raises:
        DeviceUnavailable: it is none, or not here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise DeviceUnavailable(f"“{device}” is no device. Choose auto, cpu, cuda, cuda:1 … or mps.") from None
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceUnavailable(
                "No CUDA GPU can be used: there is none, its driver is missing, or this torch was built without CUDA "
                f"(torch {torch.__version__}). Choose the CPU, or install a CUDA build of torch as the README says."
            )
        count = torch.cuda.device_count()
        if ":" in device and chosen.index >= count:
            raise DeviceUnavailable(f"There is no {device}: this machine has {count} CUDA GPU(s), counted from cuda:0.")
        return chosen if ":" in device else torch.device("cuda", torch.cuda.current_device())
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable("Apple's GPU (mps) cannot be used on this machine. Choose the CPU.")
    if chosen.type not in ("cpu", "mps"):
        raise DeviceUnavailable(f"The device “{device}” is not supported. Choose auto, cpu, cuda or mps.")
    return chosen


def choose_dtype(dtype: DtypeChoice = "auto", device: DeviceChoice = "auto") -> torch.dtype:
    """The dtype that a choice means on a device.

    Raises:
        DeviceUnavailable: unknown dtype or device.
    """
    target = choose_device(device)
    if dtype != "auto":
        if dtype not in _DTYPES:
            raise DeviceUnavailable(f"“{dtype}” is no dtype for weights. Choose auto, {', '.join(_DTYPES)}.")
        return _DTYPES[dtype]
    if target.type == "cuda":
        # Older GPUs emulate bfloat16, many times slower than float16.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if target.type == "mps":
        return torch.float16
    return torch.bfloat16 if cpu_has_fast_bfloat16() else torch.float32


def cpu_has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX); elsewhere float32 is faster."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        check: Callable[[], bool] | None = getattr(torch.cpu, name, None)
        if check is not None and check():
            return True
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def unload(model: LanguageModel) -> None:
    """Free the model's memory; it cannot be used afterwards. Nothing may be generating with it.

    The storage is freed even where another object still holds the modules.
    """
    module, model.model, model.tokenizer = model.model, None, None
    model.runtime = model.detokenizer = model.bigrams = None
    if module is not None:
        empty = torch.empty(0)
        for tensor in (*module.parameters(), *module.buffers()):
            # Offloaded weights are held by accelerate's hooks, and packed ones are no plain tensors.
            if tensor.device.type != "meta" and type(tensor.data) is torch.Tensor:
                tensor.data = empty.to(dtype=tensor.dtype)
    del module
    release_memory()


def settle_memory() -> None:
    """Collect garbage now, and let later collections pass over what is alive.

    With the libraries loaded, a full collection looks at 400,000 objects and stops every thread for a quarter of a
    second: in the middle of a stream it would be seen, and in a benchmark be measured. `release_memory` undoes it.
    """
    gc.collect()
    gc.freeze()


def release_memory() -> None:
    """Give memory that nothing uses back to the device and to the system."""
    gc.unfreeze()
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    if sys.platform == "linux":
        # glibc keeps freed heap pages; without this the process would look as large as before.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


@dataclass(frozen=True, slots=True)
class _Quantized:
    """A choice of quantisation, and what transformers takes for it."""

    choice: QuantizeChoice
    config: Any

    def weight_bytes(self, weights: int, config: Any, dtype: torch.dtype) -> float:
        """Bytes of so many weights; tables of the vocabulary keep their dtype."""
        if self.choice == "none":
            return weights * dtype.itemsize
        text = config.get_text_config()
        tables = min(weights, 2 * text.vocab_size * text.hidden_size)
        return tables * dtype.itemsize + (weights - tables) * BYTES_PER_WEIGHT[self.choice]


def _load(
    source: str | Path | None,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    small: _Quantized,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> LanguageModel:
    name = _display_name(source, folder)
    ProgressReporter(f"Loading {name}", None, "tensors", progress, cancel).update(0)
    from transformers import AutoConfig, AutoModelForCausalLM

    config: Any = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    capabilities = examine(config)
    _refuse_quantized(config, name)
    spread = _placement(folder, config, device, dtype, small, name) == "spread"
    # float16 cuts small weights off, so the fingerprint would differ: it is taken in the stored dtype, then cast.
    stored = torch.float32 if dtype == torch.float16 else dtype
    with _loading_progress(f"Loading {name}", progress, cancel):
        if spread or small.config is not None:
            identity = stored_fingerprint(folder, config)
            if identity is None:
                identity = fingerprint(_from_pretrained(AutoModelForCausalLM, folder, stored, {}))
            options: dict[str, Any] = {"quantization_config": small.config, "device_map": {"": device}}
            if spread:
                options = {"device_map": "auto", "max_memory": _memory_to_use()}
            model: Any = _from_pretrained(AutoModelForCausalLM, folder, dtype, options)
        else:
            model = _from_pretrained(AutoModelForCausalLM, folder, stored, {})
            identity = fingerprint(model)
            model.to(device=device, dtype=dtype)
    model.eval()
    model.requires_grad_(False)
    tokenizer = _load_tokenizer(folder, name)
    return LanguageModel(
        name=name,
        source=_source_of(source),
        model=model,
        tokenizer=tokenizer,
        capabilities=capabilities,
        fingerprint=identity,
        eos_token_ids=eos_token_ids(model, tokenizer),
        quantization="" if small.config is None else small.choice,
    )


def eos_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a text: generation config, tokenizer, and the end of a turn in the chat template."""
    found: set[int] = set()
    for holder in (getattr(model, "generation_config", None), model.config.get_text_config()):
        value: Any = getattr(holder, "eos_token_id", None)
        if value is not None:
            found.update(int(v) for v in (value if isinstance(value, (list, tuple)) else [value]))
            break
    if tokenizer is not None:
        if tokenizer.eos_token_id is not None:
            found.add(int(tokenizer.eos_token_id))
        template = str(getattr(tokenizer, "chat_template", None) or "")
        vocabulary = tokenizer.get_added_vocab()
        found.update(int(vocabulary[t]) for t in _TURN_ENDS if t in template and t in vocabulary)
    return frozenset(found)


def _from_pretrained(factory: Any, folder: Path, dtype: torch.dtype, options: dict[str, Any]) -> Any:
    common: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "trust_remote_code": False, **options}
    try:
        return factory.from_pretrained(str(folder), attn_implementation="sdpa", **common)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return factory.from_pretrained(str(folder), attn_implementation="eager", **common)


def _load_tokenizer(folder: Path, name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the many tokenizer backends raise anything
        raise ModelDamaged(
            f"The tokenizer of {name} cannot be loaded ({_first_line(error)}). "
            f"Put the tokenizer files into {folder}, or choose another model."
        ) from error


def _refuse_quantized(config: Any, name: str) -> None:
    quantization = getattr(config, "quantization_config", None)
    if quantization is not None:
        method = quantization.get("quant_method", "") if isinstance(quantization, dict) else quantization.quant_method
        raise ModelUnsupported(
            f"{name} is stored quantised ({getattr(method, 'value', method)}), which cannot be loaded here. "
            "Choose the original model, or a GGUF file of it (that is converted)."
        )


def _placement(
    folder: Path, config: Any, device: torch.device, dtype: torch.dtype, small: _Quantized, name: str
) -> Literal["single", "spread"]:
    """One device, or spread over all GPUs, and over main memory where even they are too small together.

    Raises:
        ModelTooLarge: it fits neither way.
    """
    needed = int(small.weight_bytes(_stored_weights(folder, config), config, dtype) * _HEADROOM)
    if device.type == "cuda":
        if needed <= torch.cuda.mem_get_info(device)[0]:
            return "single"
        free, where = torch.cuda.mem_get_info(device)[0], "the GPU"
        if small.config is None:
            free, where = sum(_memory_to_use().values()), "the GPUs and main memory together"
            if needed <= free:
                return "spread"
    else:
        free, where = psutil.virtual_memory().available, "memory"
    if needed > free:
        smaller = " or bfloat16 as dtype" if dtype == torch.float32 else ""
        weights = str(dtype).removeprefix("torch.") if small.config is None else f"{small.choice} weights"
        raise ModelTooLarge(
            f"{name} needs {needed / 1e9:.1f} GB in {weights}, and {free / 1e9:.1f} GB of "
            f"{where} are free. Choose a smaller model{smaller}, another device, or close other programs."
        )
    return "single"


def _memory_to_use() -> dict[int | str, int]:
    """Bytes that weights may take of each GPU and of main memory; the rest is for KV caches and calls."""
    gpus = {i: int(0.85 * torch.cuda.mem_get_info(i)[0]) for i in range(torch.cuda.device_count())}
    return {**gpus, "cpu": int(0.85 * psutil.virtual_memory().available)}


def _stored_weights(folder: Path, config: Any) -> int:
    """How many weights the files hold, by their size and stored dtype."""
    files = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    stored = getattr(config, "dtype", None)
    width = stored.itemsize if isinstance(stored, torch.dtype) else 4
    return sum(f.stat().st_size for f in files if not f.name.startswith("consolidated")) // width


def _display_name(source: str | Path | None, folder: Path) -> str:
    known = None if isinstance(source, Path) else catalog.find(source)
    if known is not None:
        return known.name
    receipt = read_receipt(folder)
    if receipt is not None:
        return str(receipt["name"])
    path = Path(str(source)).expanduser()
    return path.resolve().name if path.exists() else str(source).rpartition("/")[2]


def _source_of(source: str | Path | None) -> str:
    known = None if isinstance(source, Path) else catalog.find(source)
    if known is not None:
        return known.id
    path = Path(str(source)).expanduser()
    return str(path.resolve()) if path.exists() else str(source)


@contextlib.contextmanager
def _loading_progress(stage: str, progress: ProgressCallback | None, cancel: CancelToken | None) -> Generator[None]:
    """Turn transformers' progress bar over tensors into reports and cancellation checks, and print nothing."""
    from transformers.utils import logging

    class Bar:
        """Stands in for tqdm."""

        def __init__(self, items: Iterable[Any] | None = None, total: float | None = None, **_: Any) -> None:
            self._items = items
            size: Any = getattr(items, "__len__", None)
            self._reporter = ProgressReporter(stage, total or (size() if size else None), "tensors", progress, cancel)
            self._done = 0.0

        def __iter__(self) -> Iterator[Any]:
            for item in self._items or ():
                self.update(1)
                yield item

        def update(self, n: float = 1) -> None:
            self._done += n
            self._reporter.update(self._done)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def __getattr__(self, _: str) -> Callable[..., None]:
            return lambda *args, **kwargs: None

    def hook(_: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bar:
        return Bar(*args, **kwargs)

    set_hook: Any = getattr(logging, "set_tqdm_hook", None)
    if set_hook is None:
        yield
        return
    with _hook_lock:
        previous = set_hook(hook)
        try:
            yield
        finally:
            set_hook(previous)


@contextlib.contextmanager
def _plain_errors(folder: Path) -> Generator[None]:
    """Whatever transformers and torch raise while loading, as one of ours."""
    from safetensors import SafetensorError

    try:
        yield
    except (ModelError, Cancelled):
        raise
    except torch.OutOfMemoryError as error:
        release_memory()
        raise ModelTooLarge(
            "The GPU ran out of memory while the model was loaded. Choose a smaller model or dtype, or another device."
        ) from error
    except MemoryError as error:
        release_memory()
        raise ModelTooLarge(
            "The memory ran out while the model was loaded. Choose a smaller model or dtype."
        ) from error
    except ImportError as error:
        raise ModelUnsupported(
            f"The model in {folder} needs a package that is missing: {_first_line(error)}"
        ) from error
    except (SafetensorError, EOFError, OSError) as error:
        raise ModelDamaged(
            f"The model in {folder} is incomplete or damaged ({_first_line(error)}). Download it again."
        ) from error
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise ModelUnsupported(
            f"The model in {folder} cannot be loaded ({_first_line(error)}). "
            "Choose a Llama, SmolLM, Mistral, Qwen, GPT-2, GPT-NeoX, Phi or Gemma model."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
