"""`build`: compile the CPU library on this machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def build(
    names: Annotated[
        list[str] | None, typer.Option("--isa", help="An instruction set of csrc/isa.txt (may be repeated).")
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="All instruction sets of this architecture, not only this processor's best."),
    ] = False,
) -> None:
    """Compile the CPU library for this processor, where it is missing or older than its sources.

    Needs a C++ compiler: g++ or clang, or the extra “compiler” (ziglang). Without the library PyTorch computes.
    """
    from pass_core.runtime.native import compiler
    from pass_core.runtime.native.build import find, folders

    beside, cache = folders()
    writable = os.access(beside if beside.exists() else beside.parent, os.W_OK)
    compiler.build(beside if writable else cache, names=names or (), everything=everything, say=typer.echo)
    answer = find("", (beside, cache))
    typer.echo(answer.reason or f"in use: {answer.isa} ({answer.path})")
