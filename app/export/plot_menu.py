"""The context menu of every plot: save it as a picture, or copy it."""

from __future__ import annotations

import re
from pathlib import Path

import pyqtgraph as pg
from PySide6.QtCore import QPoint
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QMenu, QMessageBox

from app.export.pictures import FILTER, PictureError, plot_image, save_plot


def open_plot_menu(plot: pg.PlotWidget, place: QPoint) -> None:
    """Show the menu at a global place."""
    menu = QMenu(plot)
    menu.addAction("Save plot…", lambda: _ask(plot))
    menu.addAction("Copy plot", lambda: QGuiApplication.clipboard().setImage(plot_image(plot)))
    if (reset := getattr(plot, "reset_zoom", None)) is not None:
        menu.addAction("Reset zoom", reset)
    menu.aboutToHide.connect(menu.deleteLater)
    menu.popup(place)


def _ask(plot: pg.PlotWidget) -> None:
    name = re.sub(r"\W+", "-", plot.accessibleName().lower()).strip("-") or "plot"
    dialog = QFileDialog(plot, "Save plot", str(Path.home() / f"{name}.png"), FILTER)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)

    def chosen(file: str) -> None:
        path = Path(file)
        if not path.suffix:
            path = path.with_suffix(".svg" if "svg" in dialog.selectedNameFilter() else ".png")
        try:
            save_plot(plot, path)
        except PictureError as error:
            box = QMessageBox(QMessageBox.Icon.Warning, "Save plot", str(error), parent=plot)
            box.finished.connect(box.deleteLater)
            box.open()

    dialog.fileSelected.connect(chosen)
    dialog.finished.connect(dialog.deleteLater)
    dialog.open()
