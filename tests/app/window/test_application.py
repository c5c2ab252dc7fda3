"""The program as a whole, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtGui import QImage

ROOT = Path(__file__).resolve().parents[3]


def start(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")}
    return subprocess.run(
        [sys.executable, "main.py", *map(str, arguments)],
        cwd=ROOT,
        env=env | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.usefixtures("private_cache")
def test_a_run_without_a_hand_ends_with_a_picture(tiny_folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sub" / "window.png"
    done = start(
        *("--model", tiny_folder, "--dtype", "float32", "--prompt", "Hello", "--run", "--exit-after-run"),
        *("--screenshot", picture, "--size", "1280x800", "--max-new-tokens", 16, "--theme", "dark", "--scale", 2),
        XDG_CONFIG_HOME=str(tmp_path / "config"),
    )
    assert done.returncode == 0, done.stderr
    image = QImage(str(picture))
    assert (image.width(), image.height()) == (2560, 1600)
    assert not list((tmp_path / "config").rglob("*.ini")), "a run without a hand remembers nothing"


def test_no_display_is_one_plain_sentence() -> None:
    done = start()
    if sys.platform.startswith("linux"):
        assert done.returncode == 1
        assert done.stderr.strip().startswith("There is no display")
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("private_cache")
def test_failures_end_with_a_message(tiny_folder: Path, tmp_path: Path) -> None:
    nonsense = tmp_path / "bad.safetensors"
    nonsense.write_bytes(b"no tensors here")
    shot = ("--screenshot", tmp_path / "x.png")
    done = start("--model", tiny_folder, "--embeddings", nonsense, "--run", *shot)
    assert done.returncode == 1
    assert "bad.safetensors" in done.stderr
    done = start("--model", tiny_folder, "--temperature", 3, "--run", *shot)
    assert done.returncode == 1
    assert "emperature must be between 0 and 2" in done.stderr
    assert not (tmp_path / "x.png").exists()


def test_the_window_is_there_before_torch() -> None:
    """torch takes seconds to import: the loader's thread does that while the window already stands."""
    code = (
        "import asyncio, sys\n"
        "from PySide6.QtWidgets import QApplication\n"
        "from qasync import QEventLoop\n"
        "from app.application import Program\n"
        "from app.start.arguments import parse\n"
        "app = QApplication([])\n"
        "loop = QEventLoop(app)\n"
        "asyncio.set_event_loop(loop)\n"
        "program = Program(app, parse(['--screenshot', 'unused.png']), loop, [0])\n"
        "program.window.show()\n"
        "app.processEvents()\n"
        "assert 'torch' not in sys.modules, 'torch was imported for the window'\n"
    )
    env = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
