"""PNG and SVG of any plot, as it looks now."""

from __future__ import annotations

import os
from pathlib import Path

import pyqtgraph as pg
from pyqtgraph.exporters import ImageExporter
from PySide6.QtCore import QRectF, QSize
from PySide6.QtGui import QImage, QPainter
from PySide6.QtSvg import QSvgGenerator

PICTURE_WIDTH = 1600
FILTER = "PNG picture (*.png);;SVG drawing (*.svg)"


class PictureError(RuntimeError):
    """The picture could not be written; the message says why."""


def save_plot(plot: pg.PlotWidget, path: Path, width: int = PICTURE_WIDTH) -> None:
    """Write a plot; the suffix decides between PNG (`width` pixels wide) and SVG.

    Raises:
        PictureError: another suffix, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".png", ".svg"):
        raise PictureError(f"A plot is saved as .png or .svg, not as “{path.suffix}”. Choose one of these.")
    if not os.access(path.parent, os.W_OK):
        raise PictureError(f"{path} cannot be written: its folder is missing or read-only. Choose another folder.")
    if suffix == ".svg":
        _save_svg(plot, path)
    elif not plot_image(plot, width).save(str(path)):
        raise PictureError(f"{path} cannot be written. Choose another folder.")


def plot_image(plot: pg.PlotWidget, width: int = PICTURE_WIDTH) -> QImage:
    """A plot as an image, `width` pixels wide."""
    exporter = ImageExporter(plot.getPlotItem())
    exporter.parameters()["background"] = plot.backgroundBrush().color()
    exporter.parameters()["width"] = width
    return exporter.export(toBytes=True)


def _save_svg(plot: pg.PlotWidget, path: Path) -> None:
    """Through Qt's own generator: pyqtgraph's SVGExporter cannot read the paths that Qt 6.9 and later write."""
    source: QRectF = plot.getPlotItem().sceneBoundingRect()
    target = QRectF(0, 0, source.width(), source.height())
    generator = QSvgGenerator()
    generator.setFileName(str(path))
    generator.setSize(QSize(round(source.width()), round(source.height())))
    generator.setViewBox(target)
    generator.setTitle(plot.accessibleName())
    painter = QPainter()
    if not painter.begin(generator):
        raise PictureError(f"{path} cannot be written. Choose another folder.")
    painter.fillRect(target, plot.backgroundBrush().color())
    plot.scene().render(painter, target, source)
    painter.end()
