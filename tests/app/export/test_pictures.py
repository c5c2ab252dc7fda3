"""Plots are written as PNG and SVG, and the clipboard gets both kinds of text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pyqtgraph as pg
import pytest
from PySide6.QtGui import QGuiApplication, QImage
from pytestqt.qtbot import QtBot

from app.export.clipboard import copy_coloured, copy_plain
from app.export.pictures import PictureError, save_plot
from app.theme.roles import LIGHT, TokenRole
from tests.core.records import strategies


@pytest.fixture
def plot(qtbot: QtBot) -> pg.PlotWidget:
    widget = pg.PlotWidget(background="#fefefe")
    qtbot.addWidget(widget)
    widget.resize(320, 200)
    widget.plot([0, 1, 2], [0, 1, 4], pen="#ff0000")
    return widget


def test_png(plot: pg.PlotWidget, tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    save_plot(plot, file, width=800)
    image = QImage(str(file))
    assert image.width() == 800
    assert image.pixelColor(1, 1).name() == "#fefefe"
    reds = sum(image.pixelColor(x, y).red() > 200 > image.pixelColor(x, y).green() + 100
               for x in range(0, 800, 2) for y in range(0, image.height(), 2))  # fmt: skip
    assert reds > 20


def test_svg(plot: pg.PlotWidget, tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    save_plot(plot, file)
    assert ElementTree.parse(file).getroot().tag.endswith("svg")
    assert "#ff0000" in file.read_text()


def test_plain_errors(plot: pg.PlotWidget, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"\.png or \.svg"):
        save_plot(plot, tmp_path / "plot.gif")
    (tmp_path / "file").touch()
    for name in ("plot.png", "plot.svg"):
        with pytest.raises(PictureError, match="cannot be written"):
            save_plot(plot, tmp_path / "file" / name)


def test_clipboard(qtbot: QtBot) -> None:
    steps = strategies.example_steps()
    steps = (*steps[:-1], replace(steps[-1], stop_overlap=1))
    copy_plain(steps)
    assert QGuiApplication.clipboard().text() == " café is open"
    copy_coloured(steps)
    data = QGuiApplication.clipboard().mimeData()
    assert data.text() == " café is open"
    assert f"color:{LIGHT.tokens[TokenRole.CORRECTED].color}" in data.html()
    assert " was" not in data.html()
