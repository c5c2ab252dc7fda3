"""The program in the desktop's menu: an entry and icons where freedesktop.org says that they belong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

NAME = "pass-playground"
ENTRY = """\
[Desktop Entry]
Type=Application
Version=1.0
Name=PASS Playground
GenericName=Language model playground
Comment=Watch a language model draft and verify its own tokens, losslessly
Exec={command} %F
Icon=pass-playground
Terminal=false
Categories=Science;ArtificialIntelligence;
Keywords=language model;LLM;speculative sampling;
StartupNotify=true
StartupWMClass=pass-playground
"""
RESERVED = " \t\n\"'\\><~|&;$*?#()`"


class NoDesktop(Exception):
    """There is no menu of this kind here; the message says what to do instead."""


def data_home() -> Path:
    """Where a person's own menu entries and icons are kept.

    Raises:
        NoDesktop: on Windows and macOS.
    """
    if sys.platform in ("win32", "darwin"):
        raise NoDesktop("Menu entries of this kind are for Linux and BSD. Start the program with pass-playground.")
    given = os.environ.get("XDG_DATA_HOME", "")
    return Path(given) if os.path.isabs(given) else Path.home() / ".local" / "share"


def files(home: Path) -> tuple[Path, Path, Path]:
    """The entry, and the icon as drawing and as picture."""
    icons = home / "icons" / "hicolor"
    return (
        home / "applications" / f"{NAME}.desktop",
        icons / "scalable" / "apps" / f"{NAME}.svg",
        icons / "256x256" / "apps" / f"{NAME}.png",
    )


def install() -> list[Path]:
    """Write entry and icons; what was there is replaced.

    Returns:
        the files.

    Raises:
        NoDesktop: see `data_home`, or they cannot be written.
    """
    from pass_core.files import WriteError, write_atomically

    home = data_home()
    entry, drawing, picture = files(home)
    shipped = resources.files("resources") / "icons"
    try:
        write_atomically(drawing, (shipped / drawing.name).read_bytes())
        write_atomically(picture, (shipped / picture.name).read_bytes())
        write_atomically(entry, ENTRY.format(command=" ".join(map(quoted, command()))))
    except WriteError as error:
        raise NoDesktop(f"The menu entry cannot be written: {error}") from error
    _refresh(home)
    return [entry, drawing, picture]


def remove() -> list[Path]:
    """Take entry and icons away again.

    Returns:
        what was there.

    Raises:
        NoDesktop: see `data_home`, or they cannot be removed.
    """
    home = data_home()
    there = [path for path in files(home) if path.exists()]
    for path in there:
        try:
            path.unlink()
        except OSError as error:
            raise NoDesktop(f"{path} cannot be removed ({error.strerror or error}).") from error
    _refresh(home)
    return there


def command() -> list[str]:
    """What starts the program: the installed command beside this Python, or this checkout's main.py."""
    beside = Path(sys.executable).with_name(NAME)
    if beside.is_file():
        return [str(beside)]
    main = Path(str(resources.files("app"))).parent / "main.py"
    return [sys.executable, str(main)] if main.is_file() else [sys.executable, "-m", "app"]


def quoted(argument: str) -> str:
    """An argument as the Exec key wants it: reserved characters in quotes, a percent sign doubled."""
    text = argument.replace("%", "%%")
    if not any(c in RESERVED for c in text):
        return text
    for character in '\\"`$':
        text = text.replace(character, "\\" + character)
    return '"' + text.replace("\\", "\\\\") + '"'  # the file's own escapes come on top


def _refresh(home: Path) -> None:
    """Tell desktops that keep an index; those without one look at the folder."""
    if (tool := shutil.which("update-desktop-database")) is not None:
        subprocess.run([tool, str(home / "applications")], check=False, capture_output=True)
