"""The command line `python -m pass_core` (= `pass-core`): generate, models, fetch, train, bench, verify, humaneval,
build.

Every command's code is imported when it is called, so that `--help` answers quickly.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from pass_core.cli.console import DEBUG_VARIABLE, plain_errors, prepare_streams
from pass_core.runtime.native.build import reason_missing

_COMMANDS: dict[str, tuple[str, str]] = {
    "generate": ("generate", "Generate text and show how every token came to be."),
    "models": ("models", "List the models that are known, and which of them are on this machine."),
    "fetch": ("fetch", "Get a model (the default one if none is named) so that later starts need no network."),
    "train": ("train", "Train look-ahead embeddings for a model."),
    "bench": ("bench", "Measure speed and acceptance against plain decoding."),
    "verify": ("verify", "Check on this machine that decoding is lossless."),
    "humaneval": ("humaneval", "Run the HumanEval programming problems."),
    "build": ("build", "Compile the CPU library for this processor, where it is missing or out of date."),
}
_DEBUG = "--debug"


def _forward(name: str, module: str) -> Callable[[typer.Context], None]:
    """A command that hands its arguments to the function of that name in `pass_core.cli.<module>`."""

    @plain_errors
    def run(context: typer.Context) -> None:
        function: Any = getattr(importlib.import_module(f"pass_core.cli.{module}"), name)
        inner = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
        inner.command(context_settings={"help_option_names": ["-h", "--help"]})(plain_errors(function))
        inner(args=list(context.args), prog_name=f"{context.find_root().info_name} {name}")

    return run


def _version(wanted: bool) -> None:
    if wanted:
        from pass_core.records.environment import program_version

        typer.echo(f"PASS Playground {program_version() or 'of an unknown version'}")
        raise typer.Exit


def _application() -> typer.Typer:
    app = typer.Typer(
        name="pass_core",
        help="Parallel Speculative Sampling: one frozen model drafts several tokens in a forward pass and verifies "
        f"them losslessly. “COMMAND --help” explains each command; {_DEBUG} anywhere shows the traceback of an error.",
        epilog=reason_missing() or None,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: Annotated[  # pyright: ignore[reportUnusedParameter]
            bool, typer.Option("--version", "-V", help="Say which version this is.", callback=_version, is_eager=True)
        ] = False,
    ) -> None:
        """Only the options before a command."""

    for name, (module, summary) in _COMMANDS.items():
        app.command(
            name,
            help=summary,
            add_help_option=False,
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
        )(_forward(name, module))
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with 0, 1 (error), 2 (usage) or 130 (interrupted)."""
    prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if _DEBUG in given:
        given.remove(_DEBUG)
        os.environ[DEBUG_VARIABLE] = "1"
    from_module = os.path.basename(sys.argv[0]) in ("__main__.py", "-m")
    _application()(args=given, prog_name="python -m pass_core" if from_module else "pass-core")


if __name__ == "__main__":
    main()
