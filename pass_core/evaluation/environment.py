"""What a measurement was made with, said fully enough that somebody else can repeat it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict

from pass_core.engine import Engine
from pass_core.evaluation.state import JsonDict
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.records.runs import describe_environment, describe_lookahead


def environment_of(
    engine: Engine, lookaheads: Mapping[str, LookaheadEmbeddings] | None = None, command: str = ""
) -> JsonDict:
    """Versions, machine, model and embeddings as JSON-like values; `command` repeats the measurement."""
    import psutil

    model = engine.model
    return {
        **asdict(describe_environment(model)),
        "cpu_count": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "runtime": engine.runtime.description,
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "parameters": model.parameter_count,
        "weight_bytes": model.weight_bytes(),
        "embeddings": {
            label: {
                "name": os.path.basename(lookahead.origin) or lookahead.origin,
                "hash": describe_lookahead(lookahead).hash,
                "look_ahead": lookahead.count,
                "trained": lookahead.trained,
                "parts": [p.name for p in lookahead.parts()],
            }
            for label, lookahead in (lookaheads or {}).items()
        },
        "command": command,
    }


def machine_line(environment: Mapping[str, object]) -> str:
    """One line for captions: processor, threads, dtype, runtime, versions."""
    e = environment
    return (
        f"{e.get('model')} on {e.get('device_name')} ({e.get('device')}, {e.get('threads')} threads), "
        f"{e.get('dtype')}, {e.get('runtime')}; torch {e.get('torch')}, transformers {e.get('transformers')}, "
        f"Python {e.get('python')}"
    )
