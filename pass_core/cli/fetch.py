"""`fetch`: get a model onto this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from pass_core.cli.console import progress_display


def fetch(
    model: Annotated[
        str | None, typer.Argument(help="Catalog name, Hugging Face id or GGUF file; the default model if left out.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Get a model (the default one if none is named) so that later starts need no network; prints its folder."""
    from pass_core.models.fetch import fetch as fetch_model

    with progress_display(quiet) as progress:
        folder = fetch_model(model, progress=progress)
    typer.echo(str(folder))
