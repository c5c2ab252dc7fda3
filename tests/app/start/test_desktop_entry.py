"""The program in the desktop's menu."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.application import main
from app.start.desktop_entry import command, files, quoted

pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="freedesktop.org's menu")


def test_the_entry_is_written_and_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["--install-desktop"]) == 0
    entry, drawing, picture = files(tmp_path)
    assert str(entry) in capsys.readouterr().out
    parsed = configparser.RawConfigParser(delimiters="=", strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(entry.read_text(encoding="utf-8"))
    section = parsed["Desktop Entry"]
    assert section["Icon"] == "pass-playground"
    assert section["StartupWMClass"] == "pass-playground"  # as QGuiApplication.setDesktopFileName has it
    assert shlex.split(section["Exec"].removesuffix(" %F"))[0] == command()[0]
    assert Path(command()[0]).is_file()
    assert drawing.read_text(encoding="utf-8").lstrip().startswith("<")
    assert picture.read_bytes().startswith(b"\x89PNG")
    if shutil.which("desktop-file-validate"):
        subprocess.run(["desktop-file-validate", str(entry)], check=True)
    assert main(["--remove-desktop"]) == 0
    assert not any(path.exists() for path in files(tmp_path))
    assert main(["--remove-desktop"]) == 0
    assert "Nothing was there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "written"),
    [
        ("/usr/bin/python3", "/usr/bin/python3"),
        ("/my files/python", '"/my files/python"'),
        ("100%", "100%%"),
        ('a"b $c', '"a\\\\"b \\\\$c"'),
    ],
)
def test_arguments_are_quoted_as_the_format_wants(argument: str, written: str) -> None:
    assert quoted(argument) == written


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "icons").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["--install-desktop"]) == 1
    assert "cannot be written" in capsys.readouterr().err
