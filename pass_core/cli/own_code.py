"""The question before code from a model's folder runs: the person types the model's name, every time."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from pass_core.cli.console import note
from pass_core.models.errors import ModelUnsupported
from pass_core.models.own_code import SWITCH, own_code_of


def consent(model: str | None) -> bool:
    """Whether the code of this model's folder may run.

    Raises:
        ModelUnsupported: the name was not typed, nobody can type it, or the model is no folder.
    """
    folder = Path(model or "").expanduser()
    if model is None or not folder.is_dir():
        raise ModelUnsupported(
            f"{SWITCH} needs a model's folder. Download the model into a folder, read its Python files, and give that "
            "folder with --model."
        )
    if not own_code_of(folder):
        note(f"{folder} needs no code of its own, so none of it is run.")
        return False
    name = folder.resolve().name
    if not sys.stdin.isatty():
        raise ModelUnsupported(
            f"The code in {folder} is not run: {SWITCH} asks for the model's name, and only on a terminal."
        )
    typer.echo(f"{folder.resolve()} brings Python code. It can do anything that you may do on this machine:", err=True)
    for path in sorted(folder.glob("*.py")):
        typer.echo(f"  · {path.name}, {path.stat().st_size:,} bytes", err=True)
    typer.echo(f"Type the model's name ({name}) to run it, anything else not to: ", nl=False, err=True)
    if sys.stdin.readline().strip() != name:
        raise ModelUnsupported(f"The code in {folder} is not run: the name was not typed.")
    return True
