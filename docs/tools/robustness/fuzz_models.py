"""Alters files of small model folders: each must load and write one text by every strategy, or be refused plainly.

    PYTHONPATH=. python docs/tools/robustness/fuzz_models.py --folders 300 --seed 1

Configs, tokenizers, generation configs and chat templates lose fields or get odd values, safetensors get other bytes.
Ends with 1 if anything but a plain refusal came out, if a text differs between strategies, or if one takes longer than
100 seconds (a busy machine). The folders of a seed are always the same.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from pass_core.engine import Engine
from pass_core.models.errors import ModelError
from pass_core.models.loading import load_model
from pass_core.models.prompts import encode
from pass_core.prompt import ChatTemplateError, Prompt, PromptError
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy
from tests import tiny

SLOW_SECONDS = 100.0
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 63, 64, 65, 1 << 31, 1 << 40, 2**70, 1e308, float("inf"), float("nan"), -0.5,
    0.0, "", "x", "0", "64", [], {}, [1, 2], [None], {"a": 1}, "\ud800", "../../etc/passwd", "a" * 5000, [[[[]]]],
]  # fmt: skip
TEMPLATES = ("{{", "%}", "{% raw %}", "{{ 1/0 }}", "{{ raise_exception('no') }}", "{{ messages[5].x.y }}", "\ufffd")
FILES = ("config.json",) * 4 + ("tokenizer.json", "tokenizer_config.json", "generation_config.json",
                                "chat_template.jinja", "model.safetensors")  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all parts of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:6]) if isinstance(value, list) else ()
    return [path, *(p for key, part in inner for p in places(part, (*path, key)))]


def altered(value: Any, rng: random.Random) -> Any:
    """A copy in which one to three parts are gone or odd."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(places(value)[1:] or [()])
        if not path:
            return value
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        if rng.random() < 0.25:
            del holder[path[-1]]
        else:
            holder[path[-1]] = copy.deepcopy(rng.choice(ODD))
    return value


def alter(path: Path, rng: random.Random) -> None:
    """Change one file."""
    if path.suffix == ".json":
        text = json.dumps(altered(json.loads(path.read_text(encoding="utf-8")), rng))
        path.write_text(text[: rng.randrange(len(text))] if rng.random() < 0.1 else text, encoding="utf-8")
    elif path.suffix == ".jinja":
        text = path.read_text(encoding="utf-8")
        at = rng.randrange(len(text))
        path.write_text(text[:at] + rng.choice(TEMPLATES) + text[at:], encoding="utf-8")
    else:
        data = bytearray(path.read_bytes())
        for _ in range(rng.choice((1, 3))):
            data[rng.randrange(min(len(data), 1500))] = rng.randrange(256)
        path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.3 else data)


def tried(folder: Path, chat: bool) -> str:
    """What became of it.

    Raises:
        Exception: whatever was not made plain.
    """
    try:
        model = load_model(folder, device="cpu", dtype="float32")
        ids = encode(model, Prompt("Hello there", chat=chat))
    except (ModelError, ChatTemplateError, PromptError) as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    engine = Engine(model)
    drafts = (Strategy.TWO_CALL, Strategy.FUSED) if model.capabilities.supports_pass else ()
    texts = [
        [t.id for step in engine.decode(ids or [3], DecodingSettings(s, 3, SamplingSettings(0.8, 10)),
                                        stop=StopConditions(12), seed=5) for t in step.tokens]
        for s in (Strategy.AUTOREGRESSIVE, *drafts)
    ]  # fmt: skip
    assert all(text == texts[0] for text in texts), f"texts differ: {texts}"
    engine.close()
    return "loaded, one text"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    found: Counter[str] = Counter()
    started, slowest = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as work:
        kinds = {k: tiny.FAMILIES[k](tokenizer=True) for k in ("llama", "gpt2", "qwen3", "gemma", "gpt_neox")}
        sound = {k: tiny.save(model, Path(work) / k) for k, model in kinds.items()}
        for folder in sound.values():
            load_model(folder, device="cpu", dtype="float32")
        for number in range(given.folders):
            rng = random.Random(given.seed * 1_000_003 + number)
            kind = rng.choice(sorted(sound))
            folder = Path(work) / "altered"
            shutil.copytree(sound[kind], folder)
            file = rng.choice([f for f in FILES if (folder / f).is_file()])
            alter(folder / file, rng)
            begun = time.monotonic()
            try:
                found[tried(folder, rng.random() < 0.5)] += 1
            except Exception as error:
                found["ESCAPED"] += 1
                print(f"{number}: {kind}, {file}: {type(error).__name__}: {str(error)[:200]}")
            slowest = max(slowest, time.monotonic() - begun)
            shutil.rmtree(folder)
    print(f"{given.folders} folders of seed {given.seed} in {time.monotonic() - started:.0f} s: "
          + ", ".join(f"{name} {count}" for name, count in found.most_common())
          + f"; the slowest took {slowest:.1f} s")  # fmt: skip
    return 1 if found["ESCAPED"] or found["refused in several lines"] or slowest > SLOW_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
