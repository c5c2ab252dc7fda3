"""What one generation uses of a loaded model."""

from __future__ import annotations

from dataclasses import dataclass

from pass_core.kernels.interface import Kernels
from pass_core.lookahead.bigrams import Bigrams
from pass_core.models.detokenizer import TokenBytes
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Runtime
from pass_core.runtime.cost import CostModel


@dataclass(slots=True)
class Resources:
    """The engine's parts, handed to the loop; nothing in it is made while a text is written.

    Attributes:
        cost: seconds of a forward pass by rows; None where it was not measured (only `auto` asks for it).
        bigrams: the model's own, None where they were never read.
    """

    model: LanguageModel
    runtime: Runtime
    kernels: Kernels
    token_bytes: TokenBytes
    cost: CostModel | None = None
    bigrams: Bigrams | None = None
