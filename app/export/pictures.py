"""PNG and SVG of any plot, as it looks now."""

from __future__ import annotations

from pathlib import Path

import pyqtgraph as pg
from pyqtgraph.exporters import ImageExporter
from PySide6.QtCore import QBuffer, QRectF, QSize
from PySide6.QtGui import QImage, QPainter, QPixmap
from PySide6.QtSvg import QSvgGenerator

from pass_core.files import WriteError, write_atomically

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
    try:
        write_atomically(path, _svg(plot) if suffix == ".svg" else png(plot_image(plot, width)))
    except WriteError as error:
        raise PictureError(str(error)) from error


def png(image: QImage | QPixmap) -> bytes:
    """A picture as the content of a PNG file."""
    buffer = QBuffer()
    buffer.open(QBuffer.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # pyright: ignore[reportCallIssue, reportArgumentType] (a QIODevice is what it takes)
    return bytes(buffer.data().data())


def plot_image(plot: pg.PlotWidget, width: int = PICTURE_WIDTH) -> QImage:
    """A plot as an image, `width` pixels wide."""
    exporter = ImageExporter(plot.getPlotItem())
    exporter.parameters()["background"] = plot.backgroundBrush().color()
    exporter.parameters()["width"] = width
    return exporter.export(toBytes=True)


def _svg(plot: pg.PlotWidget) -> bytes:
    """Through Qt's own generator: pyqtgraph's SVGExporter cannot read the paths that Qt 6.9 and later write."""
    source: QRectF = plot.getPlotItem().sceneBoundingRect()
    target = QRectF(0, 0, source.width(), source.height())
    buffer = QBuffer()
    generator = QSvgGenerator()
    generator.setOutputDevice(buffer)
    generator.setSize(QSize(round(source.width()), round(source.height())))
    generator.setViewBox(target)
    generator.setTitle(plot.accessibleName())
    painter = QPainter(generator)
    painter.fillRect(target, plot.backgroundBrush().color())
    plot.scene().render(painter, target, source)
    painter.end()
    return bytes(buffer.data().data())
