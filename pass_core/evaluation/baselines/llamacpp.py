"""llama.cpp on a GGUF file of the same model, plain and with its own speculative decoding (extra “llamacpp”).

The package xllamacpp carries llama.cpp and its server, compiled; answers have the tokens and the server’s timings:
https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

import http.client
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from pass_core.evaluation.baselines.contestant import (
    GENERATE,
    Contestant,
    Job,
    Measurement,
    SourceUnavailable,
    text_hash,
)
from pass_core.models.language_model import LanguageModel
from pass_core.sampling import nucleus

NGRAM_SIMPLE, NGRAM_CACHE = "ngram-simple", "ngram-cache"
MODES: dict[str, str] = {
    GENERATE: "COMMON_SPECULATIVE_TYPE_NONE",
    NGRAM_SIMPLE: "COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE",
    NGRAM_CACHE: "COMMON_SPECULATIVE_TYPE_NGRAM_CACHE",
}
"""llama.cpp's name of each strategy here; its settings stay as it has them."""
_PLAIN = ["top_k", "temperature"]
_TIMEOUT = 600.0  # seconds without a token


def llama_cpp_installed() -> bool:
    """Whether the extra is there."""
    return importlib.util.find_spec("xllamacpp") is not None


class LlamaCppRunner:
    """One server of llama.cpp for each strategy, started when it is first asked for.

    Args:
        gguf: the model's file.
        context: tokens of prompt and text together.
        threads: computing threads; by default as many as PyTorch uses.

    Raises:
        SourceUnavailable: xllamacpp is not installed, or (in a call) the file cannot be loaded.
    """

    def __init__(self, gguf: str | Path, model: LanguageModel, *, context: int, threads: int | None = None) -> None:
        if not llama_cpp_installed():
            raise SourceUnavailable("xllamacpp is not installed: pip install “pass-playground[llamacpp]”.")
        if not Path(gguf).is_file():
            raise SourceUnavailable(f"There is no GGUF file {gguf}.")
        self._gguf, self._context = Path(gguf), context
        self._threads = threads or torch.get_num_threads()
        self._gpu_layers = -1 if model.device.type == "cuda" else 0
        self._eos = model.eos_token_ids
        self._servers: dict[str, Any] = {}

    def __call__(self, contestant: Contestant, job: Job, cancelled: Callable[[], bool]) -> Measurement:
        ids: list[int] = []
        timings: dict[str, Any] = {}
        stopped = False
        for part in self._parts(self._server(contestant.strategy), job):
            ids += part.get("tokens", ())
            timings = part.get("timings") or timings
            stopped = cancelled()
            if stopped:
                break
        accepted = int(timings.get("draft_n_accepted", 0))
        # The first token comes out of the prompt's call, and the server's clock for tokens starts there.
        timed = max(0, len(ids) - 1)
        calls = max(0, timed - accepted)
        return Measurement(
            new_tokens=len(ids),
            timed_tokens=timed,
            calls=calls,
            steps=calls,
            accepted=accepted,
            proposed=int(timings.get("draft_n", 0)),
            prefill_seconds=float(timings.get("prompt_ms", 0.0)) / 1000,
            decode_seconds=float(timings.get("predicted_ms", 0.0)) / 1000,
            text_hash=text_hash(ids),
            cancelled=stopped,
        )

    def _server(self, strategy: str) -> Any:
        if strategy not in self._servers:
            import xllamacpp  # pyright: ignore[reportMissingImports]

            library: Any = xllamacpp
            params: Any = library.CommonParams()
            params.model.path = str(self._gguf)
            params.n_ctx, params.n_parallel = self._context, 1
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
            params.n_gpu_layers = self._gpu_layers
            params.verbosity = 0
            params.speculative.types = [getattr(library.common_speculative_type, MODES[strategy])]
            try:
                self._servers[strategy] = library.Server(params)
            except Exception as error:  # anything that the C++ code throws
                raise SourceUnavailable(f"llama.cpp cannot load {self._gguf.name}: {error}") from error
        return self._servers[strategy]

    def _parts(self, server: Any, job: Job) -> Iterator[dict[str, Any]]:
        """What the server sends, event by event; the last one has the timings of all."""
        request = {
            "prompt": list(job.ids),
            "n_predict": job.max_new_tokens,
            "seed": job.seed % 2**31,
            "temperature": job.sampling.temperature,
            "top_k": job.sampling.top_k,
            "top_p": job.sampling.top_p,
            "min_p": job.sampling.min_p,
            # In our order: top-p counts probabilities after temperature.
            "samplers": ["temperature", "top_k", "top_p", "min_p"] if nucleus.is_on(job.sampling) else _PLAIN,
            "ignore_eos": job.ignore_eos,
            "cache_prompt": False,
            "return_tokens": True,
            "stream": True,
        }
        # Past any proxy: the server is this process.
        address = urlsplit(server.listening_address)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=_TIMEOUT)
        try:
            connection.request("POST", "/completion", json.dumps(request), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise SourceUnavailable(f"llama.cpp refused the prompt: {answer.read(500).decode(errors='replace')}")
            for line in answer:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])
        except OSError as error:
            raise SourceUnavailable(f"llama.cpp stopped answering: {error}") from error
        finally:
            connection.close()
