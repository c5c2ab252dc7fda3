"""A GGUF file becomes a transformers folder (safetensors, config, tokenizer), in a child process.

Dequantising takes tens of seconds and holds the interpreter, so it happens apart: the window stays alive, and
cancelling ends the child at once. Run as `python -m pass_core.models.convert FILE FOLDER`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pass_core.models import children
from pass_core.models.errors import ModelDamaged, ModelError, ModelUnsupported, NoDiskSpace
from pass_core.models.storage import require_space
from pass_core.progress import CancelToken, ProgressCallback

FLOAT32_LIMIT = (
    1_000_000_000  # beyond so many weights bfloat16 is stored: half the disk, and quantised ones lose nothing
)


def convert_gguf(
    source: Path, folder: Path, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> None:
    """Write the converted model into `folder` (which exists).

    Raises:
        ModelUnsupported, ModelDamaged, NoDiskSpace, Cancelled.
    """
    children.run_job("pass_core.models.convert", [str(source), str(folder)], progress, cancel)


def _main(source: Path, folder: Path) -> None:
    children.leave_with_parent()
    children.say(stage="Reading the GGUF file", done=0, total=None, unit="B")
    _share_slow_parts()
    weights = _count_weights(source)
    dtype, width = ("float32", 4) if weights <= FLOAT32_LIMIT else ("bfloat16", 2)
    require_space(folder, weights * width + 64_000_000, f"Converting {source.name}")
    _convert(source, folder, dtype, width, weights)


def _share_slow_parts() -> None:
    """Parse the file once and build the table of tensor names once.

    transformers parses the file four times and builds that table for every module: half a minute for a small model.
    Both results are only read, and this process does nothing else.
    """
    import gguf

    reader: Any = functools.lru_cache(maxsize=1)(gguf.GGUFReader)
    shared: Any = gguf
    shared.GGUFReader = lambda path, *_, **__: reader(str(path))
    shared.get_tensor_name_map = functools.lru_cache(maxsize=4)(gguf.get_tensor_name_map)


def _count_weights(source: Path) -> int:
    from gguf import GGUFReader

    try:
        if source.stat().st_size < 24 or source.open("rb").read(4) != b"GGUF":
            raise ModelDamaged(f"{source.name} is not a GGUF file. Choose another file, or download it again.")
        tensors = GGUFReader(source).tensors
        # The reader maps the file lazily: a tail that is missing shows only when its data are touched.
        end = max((int(t.data_offset) + int(t.n_bytes) for t in tensors), default=0)
    except ModelDamaged:
        raise
    except Exception as error:
        raise ModelDamaged(
            f"{source.name} cannot be read as GGUF ({error or type(error).__name__}). It may be cut short: "
            "download it again."
        ) from error
    if not tensors or end > source.stat().st_size:
        raise ModelDamaged(f"{source.name} is cut short: its tensors end beyond the file. Download it again.")
    return sum(int(t.n_elements) for t in tensors)


def _convert(source: Path, folder: Path, dtype: str, width: int, weights: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()

    def counted(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        done = 0
        for tensor in tensors:
            children.say(stage="Converting the weights", done=done, total=weights * width, unit="B")
            yield tensor
            done += int(tensor.n_elements) * width

    # This is the loop over all tensors; where another transformers version has none of that name, only the
    # progress is lost.
    modeling_gguf_pytorch_utils.tqdm = counted
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(source.parent), gguf_file=source.name, dtype=getattr(torch, dtype)
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    except (ValueError, KeyError, NotImplementedError, ImportError) as error:
        raise ModelUnsupported(
            f"transformers cannot convert {source.name} ({' '.join(str(error).split()) or type(error).__name__}). "
            "Choose a GGUF file of a Llama, Mistral, Qwen, GPT-2, Phi or Gemma model, or the original model."
        ) from error
    # A model that came from GGUF counts as quantised, and save_pretrained refuses those; its weights are plain by now.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    children.say(stage="Writing the converted model", done=0, total=None, unit="B")
    try:
        model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
    except OSError as error:
        raise NoDiskSpace(f"Writing to {folder} failed: {error.strerror or error}. Make room and try again.") from error


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]), Path(sys.argv[2]))
    except MemoryError:
        children.fail(ModelError("The memory was too small for the conversion. Close other programs and try again."))
    except Exception as problem:
        children.fail(problem)
    children.say(result=True)
