"""Whatever transformers, tokenizers and torch raise while loading becomes one plain sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

import torch

from pass_core.models.errors import ModelDamaged, ModelError, ModelTooLarge, ModelUnsupported
from pass_core.models.memory import release_memory
from pass_core.models.own_code import refusal
from pass_core.progress import Cancelled

_NO_MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory", "failed to allocate")
_LONGEST = 300  # characters of a foreign message that are repeated


@contextlib.contextmanager
def plain_load_errors(folder: Path) -> Generator[None]:
    """Turn every exception of the block into a ModelError; Cancelled and ModelError pass.

    Raises:
        ModelTooLarge, ModelUnsupported, ModelDamaged.
    """
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
        raise _out_of_memory() from error
    except ImportError as error:
        raise ModelUnsupported(f"The model in {folder} needs a package that is missing: {one_line(error)}") from error
    except Exception as error:  # files from strangers make these libraries raise anything
        raise _explained(error, folder) from error


def one_line(error: BaseException) -> str:
    """An error's message on one line, shortened; the error's kind where it says nothing."""
    text = " ".join(str(error).split())
    return f"{text[:_LONGEST]}…" if len(text) > _LONGEST else text or type(error).__name__


def _explained(error: Exception, folder: Path) -> ModelError:
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    text = str(error)
    if any(sign in text.lower() for sign in _NO_MEMORY):
        return _out_of_memory()
    if "trust_remote_code" in text:
        return refusal(folder)
    if isinstance(error, (SafetensorError, EOFError, OSError, UnpicklingError, UnicodeError)):
        return ModelDamaged(f"The model in {folder} is incomplete or damaged ({one_line(error)}). Download it again.")
    if isinstance(error, RecursionError):
        return ModelDamaged(f"A file of the model in {folder} is nested too deeply to be read. Download it again.")
    return ModelUnsupported(
        f"The model in {folder} cannot be loaded ({one_line(error)}). "
        "Choose a Llama, SmolLM, Mistral, Qwen, GPT-2, GPT-NeoX, Phi or Gemma model."
    )


def _out_of_memory() -> ModelTooLarge:
    release_memory()
    return ModelTooLarge("The memory ran out while the model was loaded. Choose a smaller model or dtype.")
