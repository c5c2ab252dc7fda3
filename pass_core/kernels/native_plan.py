"""The shape of a pass, searched by the compiled library: on the host, whatever the device."""

from __future__ import annotations

import ctypes

import numpy as np

from pass_core.kernels.interface import CallPlan, PlanRequest
from pass_core.kernels.layout import image
from pass_core.kernels.native_library import PlanArrays, PlanBlock


def plan_in_library(library: ctypes.CDLL, request: PlanRequest) -> CallPlan:
    """See `pass_core.kernels.interface.Kernels.plan_call`; `library` is `declared`."""
    chains, value = np.empty(len(request.reaches) + 1, dtype=np.int32), np.empty(1)
    reaches, hits, seconds = (
        np.ascontiguousarray(a, dtype=np.float64) for a in (request.reaches, request.hits, request.seconds)
    )
    parents, counts = (np.ascontiguousarray(a, dtype=np.int32) for a in (request.parents, request.counts))
    arrays = PlanArrays(
        drafts=reaches.size,
        steps=hits.size,
        tried=counts.size,
        reaches=reaches.ctypes.data,
        parents=parents.ctypes.data,
        hits=hits.ctypes.data,
        seconds=seconds.ctypes.data,
        counts=counts.ctypes.data,
        chains=chains.ctypes.data,
        value=value.ctypes.data,
    )
    drafts: int = library.pass_plan(image(PlanBlock, request), arrays)
    return CallPlan(drafts, tuple(chains[: drafts + 1].tolist()), float(value[0]))
