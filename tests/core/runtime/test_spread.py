"""Models spread over several devices by accelerate: the text they write, and that no call mixes devices.

There is no second device here. Layers that wait on the disk go through the same hooks, and fake tensors, which have a
device but no values, refuse what mixes two GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pass_core.kernels.device_step import DeviceStep, Source
from pass_core.kernels.growth import Bonus
from pass_core.kernels.heads import TorchSamplerHead
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models import loading
from pass_core.models.language_model import LanguageModel
from pass_core.models.loading import load_model, unload
from pass_core.models.placement import devices_of, is_spread
from pass_core.runtime.cuda_graphs.graphs import Captured, Work
from pass_core.runtime.cuda_graphs.inputs import StaticInputs
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime, unsupported_reason
from pass_core.runtime.cuda_graphs.tail import compact
from pass_core.runtime.factory import make_runtime
from pass_core.runtime.rows import Rows, RowsBuilder, chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime
from pass_core.settings import Strategy
from tests import tiny
from tests.core.decoding.engine import ALL_PARTS, EVERY_PART, random_lookahead, run
from tests.core.runtime.fake_gpus import fake_gpus

PROMPT = [1, 5, 2, 7]


def blocks(model: LanguageModel) -> list[str]:
    """Names of the modules that a device map places, in order."""
    names = [n for n, m in model.model.named_modules() if any(m is layer for layer in model.layers)]
    path = names[0].split(".")
    above = ".".join(path[:-2])
    listed = path[-2]
    out: list[str] = []
    for child, _ in model.model.get_submodule(above).named_children():
        out += names if child == listed else [f"{above}.{child}"]
    return [*out, next(n for n, m in model.model.named_modules() if m is model.lm_head)]


@pytest.fixture
def load_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LanguageModel]:
    """Load a model as one that fits no single device: all but its first block waits on the disk."""

    def load(original: LanguageModel, dtype: Any = "float32") -> LanguageModel:
        folder = tiny.save(original, tmp_path / original.name)
        names = blocks(original)
        placed = {n: "cpu" if i == 0 or "layers.0" in n or "h.0" in n else "disk" for i, n in enumerate(names)}
        placed |= {n: "cpu" for n in names if "rotary" in n or "embed" in n or ".wpe" in n or "drop" in n}
        genuine = loading._from_pretrained

        def place(folder: Path, dtype: torch.dtype, own_code: bool, options: dict[str, Any]) -> Any:
            if options:
                assert options["device_map"] == "auto"
                options = {"device_map": placed, "offload_folder": str(tmp_path / "offload")}
            return genuine(folder, dtype, own_code, options)

        monkeypatch.setattr(loading, "placement", lambda *_: "spread")
        monkeypatch.setattr(loading, "_from_pretrained", place)
        return load_model(folder, device="cpu", dtype=dtype)

    return load


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "phi", "gpt_neox", "gpt2"])
def test_a_model_on_several_places_writes_the_same_text(family: str, load_spread: Callable[..., LanguageModel]) -> None:
    original = tiny.FAMILIES[family](tokenizer=True)
    model = load_spread(original)
    assert is_spread(model.model)
    assert model.fingerprint == original.fingerprint
    assert model.capabilities.supports_pass
    assert any(p.device.type == "meta" for p in model.model.parameters())
    assert type(make_runtime(model)) is TorchRuntime
    assert "spread over cpu" in make_runtime(model).description
    assert "several devices" in unsupported_reason(model)
    plain = run(original, PROMPT, seed=2, count=16).ids
    assert run(model, PROMPT, seed=2, count=16).ids == plain
    for strategy in (Strategy.TWO_CALL, Strategy.FUSED):
        lookahead = random_lookahead(original, 3, ALL_PARTS)
        got = run(model, PROMPT, strategy, seed=2, count=16, k=3, lookahead=lookahead, prompt_lookup=True)
        assert got.ids == plain
        assert got.summary.proposed > 0
    unload(model)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_spread_model_has_the_fingerprint_of_its_files(dtype: str, load_spread: Callable[..., LanguageModel]) -> None:
    original = tiny.tiny_llama(tokenizer=True, peak=1e-3, tie=True)
    model = load_spread(original, dtype)
    assert str(model.dtype) == f"torch.{dtype}"
    assert model.fingerprint == original.fingerprint


def fake_model(family: str, second: str) -> LanguageModel:
    """A model without values in the fake mode in force: its first layer on cuda:0, what follows on `second`."""
    from accelerate import dispatch_model

    with unset_fake_temporarily():
        model = tiny.FAMILIES[family]()
    names = blocks(model)
    later = names[names.index(next(n for n in names if n.endswith(".1"))) :]
    place = {n: second if n in later and "rotary" not in n else "cuda:0" for n in names}
    for name, module in model.model.named_modules():
        at = next((d for n, d in place.items() if name == n or name.startswith(f"{n}.")), "cuda:0")
        for tensors in (module._parameters, module._buffers):
            for key, tensor in tensors.items():
                if tensor is not None:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=at)
                    tensors[key] = torch.nn.Parameter(empty, False) if tensors is module._parameters else empty
    if second != "cuda:0":
        dispatch_model(model.model, place, main_device=torch.device("cuda:0"), skip_keys=["cache", "past_key_values"])
        model.model.hf_device_map = place
    return model


def fake_lookahead(model: LanguageModel) -> LookaheadEmbeddings:
    with unset_fake_temporarily():
        return random_lookahead(model, 3, ALL_PARTS)


def fake_rows() -> Rows:
    rows = RowsBuilder()
    root = rows.add_token(1)
    rows.add_token(2, root)
    rows.add_lookahead_chain(3, root)
    return rows.build()


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if torch.version.cuda and not torch.cuda.is_available():
        pytest.skip("a torch with CUDA asks for a driver even where tensors are fake")
    monkeypatch.setattr("accelerate.big_modeling.check_cuda_p2p_ib_support", lambda: True)
    with fake_gpus():
        yield


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_no_call_mixes_two_gpus(family: str) -> None:
    model = fake_model(family, "cuda:1")
    assert devices_of(model.model) == [torch.device("cuda:0"), torch.device("cuda:1")]
    runtime = TorchRuntime(model)
    assert runtime.description == "transformers modules, float32, spread over cuda:0, cuda:1"
    lookahead = fake_lookahead(model)
    runtime.use_lookahead(lookahead)
    cache = runtime.new_cache(64)
    runtime.forward(cache, chain_rows(np.arange(5)))
    cache.commit(range(5))
    hidden = runtime.forward(cache, fake_rows())
    assert set(cache._buffers) == {torch.device("cuda:0"), torch.device("cuda:1")}
    assert runtime.logits(hidden).device == torch.device("cuda:1")
    assert lookahead.sampler is not None
    head = TorchSamplerHead(lookahead.sampler, model)
    assert head.prepare(hidden[-3:], torch.arange(3)).device == torch.device("cuda:0")


class NoTransfers(TorchDispatchMode):
    """Refuses operations that read the host's memory: a CUDA graph would freeze what they copied."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, out)):
            if isinstance(tensor, torch.Tensor):
                assert tensor.device.type == "cuda", f"{func} with a tensor in host memory"
        return out


class OnDevice:
    """Captures nothing, but runs the call as a capture would, under `NoTransfers`."""

    name = "device only"

    def capture(self, work: Work) -> Captured:
        with NoTransfers():
            work()
        return Captured(work)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_captured_call_never_touches_host_memory(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pass_core.runtime.cuda_graphs.runtime._difference", lambda *_: 0.0)  # there are no values
    model = fake_model(family, "cuda:0")
    runtime = CudaGraphRuntime(model, OnDevice())
    runtime.use_lookahead(fake_lookahead(model))
    cache = runtime.new_cache(64)
    for rows in (chain_rows(np.arange(5)), chain_rows(np.arange(5)), fake_rows(), fake_rows()):
        runtime.forward(cache, rows)
        assert runtime.trouble == ""
        cache.length += 1
    assert len(runtime._captured) == 2


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("guesses", [False, True], ids=["look-ahead rows", "state head"])
def test_what_follows_a_captured_call_never_touches_host_memory(guesses: bool) -> None:
    model = fake_model("llama", "cuda:0")
    device = torch.device("cuda:0")
    with unset_fake_temporarily():
        lookahead = random_lookahead(model, 3, EVERY_PART)
    assert lookahead.sampler is not None
    assert lookahead.state is not None
    head = TorchSamplerHead(lookahead.state.fit if guesses else lookahead.sampler, model)
    guess = TorchSamplerHead(lookahead.state.guess, model) if guesses else None
    bonus = Bonus(0.3, 0.5, 1.5, 256)
    tokens = lookahead.state.vocabulary if guesses else None
    shortlist = None if tokens is None else model.shortlist(tokens)
    known = None if tokens is None else tokens.numpy()
    source = Source(3, 20, head, guess, shortlist, int(guesses), bonus, 1024, 10, 4, 64, known)
    step = DeviceStep(model, 3, 16, source)
    inputs = StaticInputs(8, device, step.numbers(8))
    states = torch.empty(8, model.hidden_size, device=device)
    entries = torch.empty(2, 2, 2, 64, 8, device=device)
    with torch.inference_mode(), NoTransfers():
        followed = step.follow(states, inputs)
        compact(entries, followed, inputs.committed, 63)
    assert followed.record.shape == (step._layout.numbers(16) + 3 + 4 * 2 + 4 * 16 * 2,)  # type: ignore[union-attr]
    assert 8 * followed.record.shape[0] < 30_000  # bytes
