"""The kinds of whole steps that one model takes on its device, each captured once."""

from __future__ import annotations

import numpy as np
import torch

from pass_core.kernels.device_step import WIDTHS, DeviceStep, NextTree, Source, StepRecord
from pass_core.kernels.interface import WalkRequest
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Cache
from pass_core.runtime.cuda_graphs.buckets import row_bucket
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime
from pass_core.runtime.rows import IntArray, Rows


class DeviceSteps:
    """Whole steps of a model whose passes are captured: one copy to the device, one record back.

    It lives as long as the runtime, whose graphs hold what it made.
    """

    def __init__(self, model: LanguageModel, runtime: CudaGraphRuntime) -> None:
        self.vocabulary = model.vocabulary_size
        self.runtime = runtime
        self._model = model
        self._kinds: dict[tuple[int, int, Source | None], DeviceStep] = {}

    def run(
        self,
        cache: Cache,
        rows: Rows,
        drafts: int,
        chains: IntArray,
        levels: int,
        walked: WalkRequest,
        source: Source | None,
        grown: NextTree | None,
    ) -> tuple[torch.Tensor, StepRecord] | None:
        """A pass of a root, `drafts` drafts and their look-ahead rows; the walk; the next tree.

        The cache's entries are those of the walk, from the first row on; its length stays.

        Args:
            chains: [drafts + 1] look-ahead rows below the root and each draft.
            levels: how deep drafts can be.
            walked: top_k of 1 to `WIDTHS[-1]`, and less than the vocabulary.

        Returns:
            Hidden states [n, hidden], valid until the next pass, and what the step gave; None where it cannot be
            captured: then nothing has happened.
        """
        size = row_bucket(rows.count)
        if size is None:
            return None
        key = (levels, next(width for width in WIDTHS if width >= walked.top_k), source)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = DeviceStep(self._model, *key)
        numbers = kind.fill(size, rows.parents, drafts, np.asarray(chains), walked, grown)
        done = self.runtime.forward_and(cache, rows, kind, numbers)
        return None if done is None else (done[0], kind.read(done[1], walked, grown))
