"""What bench, verify and humaneval share: loading for a measurement, embeddings by label, the typed command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from pass_core.cli.console import note, progress_display
from pass_core.progress import CancelToken

if TYPE_CHECKING:
    from pass_core.engine import Engine
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel
    from pass_core.settings import LookaheadPart

T = TypeVar("T")
SHIPPED = ("best", "plain", "untrained")  # what --embeddings may say instead of a file
EMBEDDING_HELP = (
    "Look-ahead file, or its name on the hub (hf:user/name or hf:user/name/file); or “best” (shipped), “plain” "
    "(shipped, embeddings only), “untrained”."
)


def load_with_progress(
    model: str | None,
    device: str,
    dtype: str,
    cancel: CancelToken,
    quiet: bool = False,
    quantize: str = "none",
    own_code: bool = False,
) -> Engine:
    """Load a model and make its engine ready, with progress on stderr."""
    from pass_core.engine import Engine
    from pass_core.models.loading import load_model
    from pass_core.models.memory import freeze_heap

    with progress_display(quiet) as progress:
        options: Any = {"device": device, "dtype": dtype, "quantize": quantize, "own_code": own_code}
        engine = Engine(load_model(model, progress=progress, cancel=cancel, **options))
        engine.prepare(progress=progress, cancel=cancel)
    freeze_heap()
    return engine


def check_files(embeddings: Sequence[str] = (), outputs: Sequence[Path | None] = ()) -> None:
    """Find out before a model is loaded that the look-ahead files can be read and the results written.

    Of a file on the hub only the name is read.

    Raises:
        LookaheadError, ModelNotFound, WriteError: naming the first that cannot.
    """
    from pass_core.files import require_writable
    from pass_core.models.hub_names import is_hub_name, parse_hub_name
    from pass_core.models.lookahead_hub import load_named

    for path in outputs:
        if path is not None:
            require_writable(path)
    for choice in embeddings:
        if is_hub_name(choice):
            parse_hub_name(choice)
        elif choice not in SHIPPED:
            load_named(choice)


def write_results(results: Mapping[Path, Callable[[], str | bytes]]) -> None:
    """Write every result that can be written.

    Raises:
        WriteError: of the first that could not.
    """
    from pass_core.files import WriteError, write_atomically

    failed: list[WriteError] = []
    for path, make in results.items():
        try:
            write_atomically(path, make())
        except WriteError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def load_embeddings(
    choice: str,
    engine: Engine,
    cancel: CancelToken,
    quiet: bool = False,
    disabled: frozenset[LookaheadPart] = frozenset(),
) -> tuple[str, LookaheadEmbeddings]:
    """Look-ahead embeddings, ready for drafting without the `disabled` parts, and the label they get in tables."""
    label, lookahead = _find_embeddings(choice, engine.model, cancel, quiet)
    with progress_display(quiet) as progress:
        engine.prepare(lookahead, disabled=disabled, progress=progress, cancel=cancel)
    return label, lookahead


def _find_embeddings(
    choice: str, model: LanguageModel, cancel: CancelToken, quiet: bool
) -> tuple[str, LookaheadEmbeddings]:
    from pass_core.models.lookahead_hub import load_named
    from pass_core.models.shipped import default_lookahead, untrained_lookahead

    if choice == "untrained":
        return "untrained", untrained_lookahead(model)
    if choice in ("best", "plain"):
        lookahead = default_lookahead(model, prefer="best" if choice == "best" else "embeddings")
        if not lookahead.trained and not quiet:
            note(f"No trained look-ahead embeddings for {model.name}: using the {lookahead.origin}.")
        return (choice if lookahead.trained else "untrained"), lookahead
    with progress_display(quiet) as progress:
        lookahead = load_named(choice, model, progress, cancel)
    return Path(lookahead.origin).stem, lookahead


def comma_list(text: str, convert: Callable[[str], T], option: str) -> tuple[T, ...]:
    """Values between commas, each once, in order.

    Raises:
        typer.BadParameter: one cannot be converted, or there is none.
    """
    out: list[T] = []
    for word in text.split(","):
        if not word.strip():
            continue
        try:
            value = convert(word.strip())
        except ValueError as error:
            raise typer.BadParameter(f"“{word.strip()}”: {error}", param_hint=option) from None
        if value not in out:
            out.append(value)
    if not out:
        raise typer.BadParameter("give at least one value", param_hint=option)
    return tuple(out)


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command as it was typed, for reports."""
    given = sys.argv[1:] if arguments is None else arguments
    return "python -m pass_core " + " ".join(shlex.quote(a) for a in given)
