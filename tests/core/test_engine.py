"""The engine: one text at a time, everything slow before the first step, a plain word when memory is full."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pass_core import DecodingSettings, Engine, EngineBusy, Prompt, StopConditions, Strategy
from pass_core.decoding.state import DecodeState
from pass_core.engine import OutOfMemory
from pass_core.models.shipped import untrained_lookahead
from pass_core.prompt import ChatTemplateError
from pass_core.runtime.torch_runtime import TorchRuntime
from tests import tiny

PLAIN = DecodingSettings(Strategy.AUTOREGRESSIVE)


def test_a_second_generation_is_refused_until_the_first_has_ended() -> None:
    engine = Engine(tiny.tiny_llama())
    first = engine.decode([1, 2], PLAIN, stop=StopConditions(4))
    next(first)
    with pytest.raises(EngineBusy, match="Stop it first"):
        next(engine.decode([1, 2], PLAIN))
    first.close()
    assert list(engine.decode([1, 2], PLAIN, stop=StopConditions(2)))


@pytest.mark.parametrize("strategy", [Strategy.AUTOREGRESSIVE, Strategy.TWO_CALL, Strategy.FUSED])
def test_nothing_slow_happens_inside_a_step(
    strategy: Strategy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `prepare`, too: runtime, costs and bigrams are there before the first step begins."""
    model = tiny.tiny_llama()
    engine = Engine(model, cache=tmp_path)
    stepping: list[str] = []
    begin = DecodeState.begin_step

    def watched(state: DecodeState) -> None:
        for name in ("make_runtime", "kept_or_measured", "read_bigrams", "kept_bigrams", "TokenBytes"):
            monkeypatch.setattr(f"pass_core.engine.{name}", lambda *_, name=name: stepping.append(name))
        begin(state)

    monkeypatch.setattr(DecodeState, "begin_step", watched)
    steps = list(engine.decode([1, 2], DecodingSettings(strategy, k=3), stop=StopConditions(8)))
    assert sum(len(s.tokens) for s in steps) == 8
    assert stepping == []


def test_preparing_reads_bigrams_for_a_file_that_drafts_with_them(tmp_path: Path) -> None:
    model = tiny.tiny_llama(tokenizer=True)
    engine = Engine(model, cache=tmp_path)
    engine.prepare()
    assert engine.bigrams is None
    engine.prepare(untrained_lookahead(model))
    assert engine.bigrams is not None


def test_full_memory_is_a_plain_sentence_and_the_next_text_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny.tiny_llama())
    with monkeypatch.context() as patch:

        def full(*_: object) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        patch.setattr(TorchRuntime, "forward", full)
        with pytest.raises(OutOfMemory, match="Choose fewer new tokens"):
            list(engine.decode([1, 2, 3], PLAIN, stop=StopConditions(4)))
    assert len(list(engine.decode([1, 2, 3], PLAIN, stop=StopConditions(4)))) == 4


def test_a_chat_prompt_starts_with_one_start_token_where_template_and_tokenizer_both_bring_one() -> None:
    model = tiny.tiny_llama(tokenizer=True)
    model.tokenizer.chat_template = (
        "{{ eos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    from tokenizers.processors import TemplateProcessing

    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|end|> $A", special_tokens=[("<|end|>", tiny.END)]
    )
    engine = Engine(model)
    assert engine.encode("Hi")[0] == tiny.END  # the tokenizer's habit
    ids = engine.encode(Prompt("Hi", chat=True))
    assert ids == [tiny.END, *b"[user]Hi[assistant]"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m.content[0].text }}{% endfor %}", ""),
        ("nothing of it", "leaves the message out"),
        ("{{ raise_exception('only tools') }}", "only tools"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "leaves the system message out"),
    ],
)
def test_templates_of_many_kinds_are_rendered_or_refused(template: str, says: str) -> None:
    model = tiny.tiny_llama(tokenizer=True)
    model.tokenizer.chat_template = template
    prompt = Prompt("Hello there", chat=True, system="Be kind." if "system" in says else "")
    if says:
        with pytest.raises(ChatTemplateError, match=says):
            Engine(model).encode(prompt)
    else:
        assert Engine(model).encode(prompt) == list(b"Hello there")
