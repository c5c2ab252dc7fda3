"""A name or path becomes a ready LanguageModel; `unload` gives its memory back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pass_core.models import catalog
from pass_core.models.capabilities import examine
from pass_core.models.config import read_config
from pass_core.models.device import DeviceChoice, DtypeChoice, choose_device, choose_dtype, exact_cpu_dtype
from pass_core.models.errors import ModelDamaged, ModelTooLarge, ModelUnsupported, PackageMissing
from pass_core.models.fetch import fetch
from pass_core.models.fit import Quantized, memory_to_use, placement
from pass_core.models.gguf_source import gguf_of
from pass_core.models.language_model import LanguageModel, fingerprint
from pass_core.models.load_errors import one_line, plain_load_errors
from pass_core.models.loading_progress import loading_progress
from pass_core.models.memory import release_memory
from pass_core.models.own_code import OwnCode, own_code_of, refusal
from pass_core.models.quantize import QuantizeChoice, quantization_config, while_loading
from pass_core.models.storage import read_receipt
from pass_core.models.stored import stored_fingerprint
from pass_core.models.trial import check_numbers, sample_ids
from pass_core.models.weights import check_loaded, check_stored, skeleton, weight_count
from pass_core.progress import CancelToken, ProgressCallback, ProgressReporter

_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endofturn|>")


def load_model(
    source: str | Path | None = None,
    *,
    device: DeviceChoice = "auto",
    dtype: DtypeChoice = "auto",
    quantize: QuantizeChoice = "none",
    own_code: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> LanguageModel:
    """Load a catalog name, Hugging Face id, local directory or GGUF file; None is the default model.

    What is not on this machine yet is fetched (and converted) first; later loads need no network.

    Args:
        device: "auto" prefers CUDA, then MPS, then the CPU. What does not fit into one CUDA GPU is spread over all, and
            over main memory where they are too small together (slow).
        dtype: "auto" is bfloat16 where a GPU computes it, else float16; on a CPU the fastest that holds the
            checkpoint's weights exactly, a GGUF file's own blocks among them (`pass_core.runtime.choice` measures it).
        quantize: weights of the layers as small integers, see `pass_core.models.quantize`.
        own_code: whether Python code of the model's folder may run, where transformers does not know the architecture.
            It can do anything; ask a person first (`pass_core.cli.own_code`).

    Raises:
        Cancelled: the token was set.
        ModelError: a subclass; the message is a plain sentence with the way out.
    """
    target = choose_device(device)
    automatic = dtype == "auto" and target.type == "cpu" and quantize in ("none", "gguf", "int8")
    # The automatic dtype on a CPU follows the checkpoint's; only some checkpoints need a measurement for it.
    number = torch.float32 if automatic else choose_dtype(dtype, device)
    small = Quantized(quantize, quantization_config(quantize, target, number))
    folder = fetch(source, progress=progress, cancel=cancel)
    if cancel is not None:
        cancel.raise_if_cancelled()
    if quantize == "gguf" and gguf_of(folder) is None:
        raise ModelUnsupported(
            "The weights “as in the file” need a model from a GGUF file that is still on this machine. "
            "Choose other weights, or load the GGUF file."
        )
    with plain_load_errors(folder):
        if automatic:
            number = exact_cpu_dtype(getattr(read_config(folder, own_code), "dtype", None))
        model = _load(source, folder, target, number, small, own_code, progress, cancel)
    if quantize == "gguf":
        model.weights = "gguf"
    elif quantize == "int8" and not model.quantization:
        model.weights = "int8"
    else:
        model.weights = "auto" if automatic else "module"
    return model


def unload(model: LanguageModel) -> None:
    """Free the model's memory; it cannot be used afterwards. Nothing may be generating with it.

    The storage is freed even where another object still holds the modules.
    """
    module, model.model, model.tokenizer = model.model, None, None
    if module is not None:
        empty = torch.empty(0)
        for tensor in (*module.parameters(), *module.buffers()):
            # Offloaded weights are held by accelerate's hooks, and packed ones are no plain tensors.
            if tensor.device.type != "meta" and type(tensor.data) is torch.Tensor:
                tensor.data = empty.to(dtype=tensor.dtype)
    del module
    release_memory()


def _load(
    source: str | Path | None,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    small: Quantized,
    own_code: bool,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> LanguageModel:
    name = _display_name(source, folder)
    reporter = ProgressReporter(f"Loading {name}", None, "tensors", progress, cancel)
    reporter.update(0)
    config = read_config(folder, own_code)
    code = own_code_of(folder) if own_code else OwnCode(False, False)
    capabilities = examine(config, code.model)
    _refuse_quantized(config, name)
    _refuse_adapter(folder)
    outline = skeleton(config, code.model)
    check_stored(outline, folder)
    weights = weight_count(outline)
    small = _fitting(small, weights, config, device, dtype, name)
    spread = placement(weights, config, device, dtype, small, name) == "spread"
    reporter.update(0)  # a cancelled load ends before memory is taken
    # float16 cuts small weights off, so the fingerprint would differ: it is taken in the stored dtype, then cast.
    stored = torch.float32 if dtype == torch.float16 else dtype
    with loading_progress(f"Loading {name}", progress, cancel):
        if spread or small.config is not None:
            identity = stored_fingerprint(folder, config)
            if identity is None:
                identity = fingerprint(_from_pretrained(folder, stored, code.model, {}))
            options: dict[str, Any] = {"quantization_config": small.config, "device_map": {"": device}}
            if spread:
                options = {"device_map": "auto", "max_memory": memory_to_use()}
            model: Any = _from_pretrained(folder, dtype, code.model, options)
        else:
            model = _from_pretrained(folder, stored, code.model, {})
            identity = fingerprint(model)
            model.to(device=device, dtype=dtype)
    model.eval()
    model.requires_grad_(False)
    tokenizer = _load_tokenizer(folder, name, code.tokenizer or code.model)
    if not spread:  # each pass of a spread model may read its weights from a disk
        check_numbers(model, sample_ids(tokenizer), name)
    return LanguageModel(
        name=name,
        source=_source_of(source),
        model=model,
        tokenizer=tokenizer,
        capabilities=capabilities,
        fingerprint=identity,
        eos_token_ids=eos_token_ids(model, tokenizer),
        quantization="" if small.config is None else small.choice,
        gguf=gguf_of(folder),
    )


def _fitting(
    small: Quantized, weights: int, config: Any, device: torch.device, dtype: torch.dtype, name: str
) -> Quantized:
    """Weights whose whole is too large for memory become int8 one by one, where torchao is installed."""
    if small.choice != "int8" or small.config is not None:
        return small
    try:
        placement(weights, config, device, dtype, small, name)
    except ModelTooLarge:
        try:
            return Quantized("int8", while_loading(dtype))
        except PackageMissing:
            pass
    return small


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


def _from_pretrained(folder: Path, dtype: torch.dtype, own_code: bool, options: dict[str, Any]) -> Any:
    """transformers' model with every weight from the files.

    Raises:
        ModelDamaged: tensors are missing, left over or of another shape.
    """
    import transformers

    factory: Any = transformers.AutoModelForCausalLM
    common: dict[str, Any] = {
        "dtype": dtype,
        "local_files_only": True,
        "trust_remote_code": own_code,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # reported, and refused below
        **options,
    }
    try:
        model, info = factory.from_pretrained(str(folder), attn_implementation="sdpa", **common)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        model, info = factory.from_pretrained(str(folder), attn_implementation="eager", **common)
    check_loaded(model, info, f"The model in {folder}")
    return model


def _load_tokenizer(folder: Path, name: str, own_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=own_code)
        sample_ids(tokenizer)
    except Exception as error:  # the many tokenizer backends raise anything
        if "trust_remote_code" in str(error):
            raise refusal(folder) from error
        raise ModelDamaged(
            f"The tokenizer of {name} cannot be loaded ({one_line(error)}). "
            f"Put the tokenizer files into {folder}, or choose another model."
        ) from error
    return tokenizer


def _refuse_quantized(config: Any, name: str) -> None:
    quantization = getattr(config, "quantization_config", None)
    if quantization is not None:
        method = quantization.get("quant_method", "") if isinstance(quantization, dict) else quantization.quant_method
        raise ModelUnsupported(
            f"{name} is stored quantised ({getattr(method, 'value', method)}), which cannot be loaded here. "
            "Choose the original model, or a GGUF file of it (that is converted)."
        )


def _refuse_adapter(folder: Path) -> None:
    if (folder / "adapter_config.json").is_file():
        raise ModelUnsupported(
            f"The folder {folder} holds an adapter (adapter_config.json) beside a model. Merge it into the model, "
            "or move the adapter's files away to load the model alone."
        )


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
