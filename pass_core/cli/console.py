"""What all commands share: plain errors, progress with time left, and the two output streams."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import traceback
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, TextIO, cast

import typer

from pass_core.progress import Cancelled, Progress, ProgressCallback
from pass_core.text import NotText, decode, well_formed

if TYPE_CHECKING:
    from rich.console import Console

DEBUG_VARIABLE = "PASS_CORE_DEBUG"
FAILED = 1
INTERRUPTED = 130

P = ParamSpec("P")


def stdout_console() -> Console:
    """For results; colours only on a terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def stderr_console() -> Console:
    """For progress, notes and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def prepare_streams() -> None:
    """UTF-8 on every system, so that no token can break the output."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the caller closed it: nobody reads there
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (until the process ends)
        elif isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8", errors="replace")


def plain_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Make a command report errors as one plain sentence on stderr and end with status 1 (130 when interrupted)."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except BrokenPipeError:  # the reader (such as `head`) has left: nothing more to say
            _silence_stdout()
            raise typer.Exit(FAILED) from None
        except (KeyboardInterrupt, Cancelled):
            _complain("Cancelled.")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if type(error).__module__.startswith(("click", "typer")):
                raise  # usage errors and exits, which typer shows itself
            if os.environ.get(DEBUG_VARIABLE):
                traceback.print_exc()
            if isinstance(error, OSError) and error.filename is None:
                _silence_stdout()  # it may be what cannot be written, and Python would try again at its end
            _complain(describe(error))
            raise typer.Exit(FAILED) from None

    return wrapped


def _silence_stdout() -> None:
    """Let nothing more be written to standard output, not even what Python holds back."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def describe(error: Exception) -> str:
    """One sentence: the message of our own errors as it is, of others with their kind and a way to see more."""
    text = " ".join(str(error).split())
    if type(error).__module__.split(".")[0] in ("pass_core", "app") and text:
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return f"Unexpected {type(error).__name__}: {text or 'no message'}. Run again with --debug to see where."


def note(message: str) -> None:
    """A remark on stderr."""
    stderr_console().print(message, style="dim", markup=False)


def _complain(message: str) -> None:
    stderr_console().print(f"Error: {message}" if message != "Cancelled." else message, style="red", markup=False)


@contextlib.contextmanager
def progress_display(quiet: bool = False) -> Generator[ProgressCallback, None, None]:
    """Show `Progress` reports: a bar with time left on a terminal, one line a stage elsewhere, nothing when quiet."""
    console = stderr_console()
    if quiet:
        yield lambda report: None
    elif console.is_terminal:
        with _bars(console) as callback:
            yield callback
    else:
        yield _StageLines(sys.stderr)


class _StageLines:
    """One line for every new stage, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = ""

    def __call__(self, report: Progress) -> None:
        if report.stage != self._stage:
            self._stage = report.stage
            size = f" ({amount(report.total, report.unit)})" if report.total else ""
            print(f"{report.stage}{size} …", file=self._stream, flush=True)


@contextlib.contextmanager
def _bars(console: Console) -> Generator[ProgressCallback, None, None]:
    from rich import progress as bars

    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.TextColumn("{task.fields[amount]}", markup=False),
        bars.TextColumn("{task.fields[left]}", markup=False),
    )
    with bars.Progress(*columns, console=console, transient=True) as display:
        task: bars.TaskID | None = None
        stage = ""

        def callback(report: Progress) -> None:
            nonlocal task, stage
            done = amount(report.done, report.unit) if report.unit == "B" else f"{report.done:,.0f}"
            shown = f"{done} of {amount(report.total, report.unit)}" if report.total else ""
            left = f"{clock(report.seconds_left)} left" if report.seconds_left is not None else ""
            if task is None or report.stage != stage:
                if task is not None:
                    display.remove_task(task)
                task, stage = display.add_task(report.stage, total=report.total, amount=shown, left=left), report.stage
            display.update(task, completed=report.done, total=report.total, amount=shown, left=left)

        yield callback


def amount(value: float | None, unit: str) -> str:
    """A quantity for a person: bytes as kB, MB, GB; anything else as a count."""
    if value is None:
        return "?"
    if unit != "B":
        return f"{value:,.0f} {unit}"
    for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {name}" if value < 100 * size else f"{value / size:.0f} {name}"
    return f"{value:.0f} B"


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:34 or 1:02:03."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def read_standard_input() -> str | None:
    """The text that is piped in, of any encoding and line ends; None at a terminal.

    Raises:
        NotText: it is binary.
    """
    stdin = cast("TextIO | None", sys.stdin)
    if stdin is None or stdin.isatty():
        return None
    buffer: BinaryIO | None = getattr(stdin, "buffer", None)
    if buffer is None:
        return well_formed(stdin.read())
    try:
        return decode(buffer.read()).replace("\r\n", "\n")
    except NotText as error:
        raise NotText(f"What is piped in is no text: {error}. Save it as UTF-8.") from error
