"""The window's own command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pass_core.settings import Strategy, Verification


@dataclass(frozen=True, slots=True)
class Arguments:
    """The options of `python main.py`; None means the user's last choice or the default."""

    model: str | None
    device: str
    dtype: str
    quantize: str
    embeddings: str | None
    prompt: str | None
    chat: bool
    strategy: str | None
    verification: str | None
    k: int | None
    auto: bool | None
    lookup: bool
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    max_new_tokens: int | None
    seed: int | None
    run: bool
    screenshot: Path | None
    screenshot_after: int | None
    hover: int | None
    ghosts: bool
    scale: float
    exit_after_run: bool
    theme: str | None
    size: tuple[int, int] | None
    page: str
    new_window: bool
    install_desktop: bool
    remove_desktop: bool

    @property
    def unattended(self) -> bool:
        """Nobody looks: nothing is remembered, and a failure ends the program with a message."""
        return self.screenshot is not None or self.exit_after_run


def parse(argv: Sequence[str] | None = None) -> Arguments:
    """Read the command line; exits with a message on nonsense."""
    p = argparse.ArgumentParser(
        prog="pass-playground", description="Watch a language model draft and verify its own tokens, losslessly."
    )
    what = p.add_argument_group("what to load")
    what.add_argument("--model", help="known name, Hugging Face id, folder or GGUF file (default: the embedded model)")
    what.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    what.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    what.add_argument(
        "--quantize",
        default="none",
        choices=("none", "gguf", "int8", "int4"),
        help="weights: gguf takes a GGUF file's own blocks (CPU); int8 and int4 round them",
    )
    what.add_argument("--embeddings", metavar="FILE", help="look-ahead embeddings (default: the best shipped file)")
    how = p.add_argument_group("how to generate")
    how.add_argument("--prompt", help="text to continue")
    how.add_argument("--chat", action="store_true", help="send the prompt through the chat template")
    how.add_argument("--strategy", choices=[s.value for s in Strategy])
    how.add_argument("--verification", choices=[v.value for v in Verification])
    how.add_argument("--k", type=int, help="look-ahead steps in use")
    how.add_argument("--auto", action=argparse.BooleanOptionalAction, help="let the engine choose the tree")
    how.add_argument("--lookup", action="store_true", help="prompt lookup as a second source of drafts")
    how.add_argument("--temperature", type=float)
    how.add_argument("--top-k", type=int, help="0 is off")
    how.add_argument("--top-p", type=float, help="1 is off")
    how.add_argument("--min-p", type=float, help="0 is off")
    how.add_argument("--max-new-tokens", type=int)
    how.add_argument("--seed", type=int)
    hand = p.add_argument_group("without a hand")
    hand.add_argument("--run", action="store_true", help="press Run as soon as the model is loaded")
    hand.add_argument("--screenshot", type=Path, metavar="FILE", help="save a picture of the window (PNG)")
    hand.add_argument(
        "--screenshot-after", type=int, metavar="N", help="take it when N tokens are there, not at the end"
    )
    hand.add_argument("--hover", type=int, metavar="N", help="show the card of token N in the picture")
    hand.add_argument("--ghosts", action="store_true", help="show rejected drafts")
    hand.add_argument("--scale", type=float, default=1.0, help="device pixels per pixel of the picture")
    hand.add_argument("--exit-after-run", action="store_true", help="close the window when the run has finished")
    look = p.add_argument_group("look")
    look.add_argument("--theme", choices=("system", "light", "dark"))
    look.add_argument("--size", type=_size, metavar="WxH", help="window size, such as 1280x800")
    look.add_argument("--page", default="generate", help="page to show: generate, compare, train, ...")
    look.add_argument("--new-window", action="store_true", help="open a window even if one is open already")
    menu = p.add_argument_group("desktop (Linux)")
    menu.add_argument("--install-desktop", action="store_true", help="put the program into the desktop's menu, and end")
    menu.add_argument("--remove-desktop", action="store_true", help="take it out of the menu again, and end")
    return Arguments(**vars(p.parse_args(argv)))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"“{text}” is not a size such as 1280x800")
    return int(width), int(height)
