"""A GGUF file becomes a transformers folder (safetensors, config, tokenizer), in a child process.

Dequantising takes tens of seconds and holds the interpreter, so it has a process of its own: the window stays
alive, and cancelling kills the child. Run as `python -m pass_core.models.convert FILE FOLDER`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from pass_core.files import is_full
from pass_core.models import children
from pass_core.models.errors import ModelError, ModelTooLarge, ModelUnsupported
from pass_core.models.fit import free_memory
from pass_core.models.gguf_check import check_gguf
from pass_core.models.gguf_config import complete_config
from pass_core.models.gguf_header import GgufHeader, read_header
from pass_core.models.gguf_rope import FACTOR_TENSORS
from pass_core.models.gguf_shared import shared_parts
from pass_core.models.gguf_tokens import end_ids, finish_tokenizer
from pass_core.models.load_errors import one_line
from pass_core.models.storage import full_disk, models_folder, require_space
from pass_core.models.weights import check_loaded, names, skeleton, weight_count
from pass_core.progress import CancelToken, ProgressCallback

# Models with more weights are stored in bfloat16: half the disk, and quantised weights lose nothing.
FLOAT32_LIMIT = 1_000_000_000


def convert_gguf(
    source: Path, folder: Path, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> None:
    """Write the converted model into `folder` (which exists).

    Raises:
        ModelUnsupported, ModelDamaged, NoDiskSpace, Cancelled.
    """
    children.run_job("pass_core.models.convert", [str(source), str(folder)], progress, cancel)


def convert_here(source: Path, folder: Path) -> None:
    """What the child does, in this process.

    Raises:
        ModelError: a subclass.
        MemoryError: see the child's end below.
    """
    children.say(stage="Reading the GGUF file", done=0, total=None, unit="B")
    header = read_header(source)
    check_gguf(header)
    weights = sum(t.count for t in header.tensors.values())
    dtype, width = ("float32", 4) if weights <= FLOAT32_LIMIT else ("bfloat16", 2)
    require_space(folder, weights * width + 64_000_000, f"Converting {source.name}")
    with shared_parts(), tempfile.TemporaryDirectory(dir=folder.parent) as alone:
        # transformers also reads what lies beside the file: another model's config or tokenizer, an adapter.
        _convert(_only(source, Path(alone)), header, folder, dtype, width)


def _only(source: Path, folder: Path) -> Path:
    """The file in a folder of its own: linked, or copied where links cannot be made."""
    target = folder / "model.gguf"
    for link in (os.symlink, os.link):
        try:
            link(source, target)
        except OSError:
            continue
        return target
    shutil.copyfile(source, target)
    return target


def _convert(source: Path, header: GgufHeader, folder: Path, dtype: str, width: int) -> None:
    from safetensors import SafetensorError
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        config = _config(source, header, width)
        model = _model(source, header, config, dtype, width)
        tokenizer: Any = AutoTokenizer.from_pretrained(
            str(source.parent), gguf_file=source.name, trust_remote_code=False
        )
    except ModelError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # hostile files make these libraries raise anything
        raise ModelUnsupported(
            f"transformers cannot convert {header.name} ({one_line(error)}). "
            "Choose a GGUF file of a Llama, Mistral, Qwen, GPT-2, Phi or Gemma model, or the original model."
        ) from error
    # A model that came from GGUF counts as quantised, and save_pretrained refuses those; its weights are plain by now.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    ends = end_ids(header)
    if ends:
        model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    children.say(stage="Writing the converted model", done=0, total=None, unit="B")
    try:
        model.save_pretrained(str(folder))
        finish_tokenizer(tokenizer, header, folder)
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and not is_full(error):
            raise ModelError(f"{folder} cannot be written ({error.strerror or error}).") from error
        raise full_disk(models_folder()) from error


def _config(source: Path, header: GgufHeader, width: int) -> Any:
    """transformers' config of the file with everything that its reader drops.

    Raises:
        ModelUnsupported: the file says what the config cannot.
        ModelTooLarge: the model does not fit into memory.
    """
    from gguf import GGUFReader, dequantize
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(str(source.parent), gguf_file=source.name, trust_remote_code=False)
    tables = [t for t in GGUFReader(source).tensors if t.name in FACTOR_TENSORS]
    factors = {t.name: [float(v) for v in dequantize(t.data, t.tensor_type).reshape(-1)] for t in tables}
    complete_config(config, header, factors)
    needed, free = weight_count(skeleton(config)) * width, free_memory()
    if needed > free:
        raise ModelTooLarge(
            f"Converting {header.name} needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. "
            "Choose a smaller model, or close other programs."
        )
    return config


def _model(source: Path, header: GgufHeader, config: Any, dtype: str, width: int) -> Any:
    """The dequantised model; every tensor of the file is in it, and every weight of it is from the file."""
    import torch
    import transformers

    factory: Any = transformers.AutoModelForCausalLM

    weights = sum(t.count for t in header.tensors.values())
    taken: set[str] = set()
    with _watched(weights, width, taken):
        model, info = factory.from_pretrained(
            str(source.parent),
            gguf_file=source.name,
            config=config,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported, and refused below
            trust_remote_code=False,
        )
    check_loaded(model, info, header.name)
    if taken:
        _refuse_left_over(header, taken)
    return model


@contextlib.contextmanager
def _watched(weights: int, width: int, taken: set[str]) -> Generator[None]:
    """Report transformers' loop over all tensors, and collect the names that it knows in `taken`.

    Where another transformers version has none of these, only progress and the check of what is left over are lost.
    """
    from transformers import modeling_gguf_pytorch_utils

    reader: Any = modeling_gguf_pytorch_utils
    bar, mapping = reader.tqdm, reader.get_gguf_hf_weights_map

    def counted(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        done = 0
        for tensor in tensors:
            children.say(stage="Converting the weights", done=done, total=weights * width, unit="B")
            yield tensor
            done += int(tensor.n_elements) * width

    def noted(*args: Any, **kwargs: Any) -> dict[str, str]:
        found = mapping(*args, **kwargs)
        taken.update(found)
        return found

    reader.tqdm, reader.get_gguf_hf_weights_map = counted, noted
    try:
        yield
    finally:
        reader.tqdm, reader.get_gguf_hf_weights_map = bar, mapping


def _refuse_left_over(header: GgufHeader, taken: set[str]) -> None:
    """Refuse tensors that transformers passed over, such as biases that its architecture has not.

    Raises:
        ModelUnsupported: with their names.
    """
    known = taken | {f"{name}.weight" for name in taken} | set(FACTOR_TENSORS)
    left = sorted(n for n in header.tensors if n not in known and not (n == "output.weight" and _ties(header)))
    if left:
        raise ModelUnsupported(
            f"{header.name} cannot be converted rightly: transformers' {header.architecture} has no place for its "
            f"weights {names(left)}. Choose the original model, or another file."
        )


def _ties(header: GgufHeader) -> bool:
    """Whether transformers always uses the input table as the lm_head, even against the file (Falcon, Bloom, GPT-2)."""
    return header.architecture == "gpt2"


if __name__ == "__main__":
    children.leave_with_parent()
    try:
        convert_here(Path(sys.argv[1]), Path(sys.argv[2]))
    except MemoryError:
        children.fail(ModelError("The memory was too small for the conversion. Close other programs and try again."))
    except Exception as problem:
        children.fail(problem)
    children.say(result=True)
