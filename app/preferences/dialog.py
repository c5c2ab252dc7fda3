"""The preferences: what is chosen once. Everything applies at once, but for what says that it needs a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFrame,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.history.service import HistoryService
from app.preferences.folder_rows import FolderRows
from app.start.threads import KEY as THREADS
from app.start.threads import VARIABLE, set_outside
from app.state.context import AppContext
from app.state.folders import PLACES, Place, choose_folder
from app.theme.apply import ThemeMode
from app.theme.scale import STEPS, scaled, sized
from app.widgets.basic import Card, Segmented, guard_wheel, label, pad_spin_box, row
from app.widgets.choice import Choice
from app.widgets.long_work_notice import NOTICE

SIZE = (720, 620)
MODES = (
    (ThemeMode.SYSTEM.value, "As the system", "Light or dark, as the desktop is"),
    (ThemeMode.LIGHT.value, "Light", "Always light"),
    (ThemeMode.DARK.value, "Dark", "Always dark"),
)


class PreferencesDialog(QDialog):
    """Opened with `open()`; Escape closes it.

    Args:
        set_theme, set_zoom: how the window changes its look and remembers it.

    Attributes:
        theme, zoom, threads, notice, folders, reset: what a person changes.
    """

    def __init__(
        self,
        context: AppContext,
        history: HistoryService,
        set_theme: Callable[[ThemeMode], None],
        set_zoom: Callable[[float], None],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._context, self._history = context, history
        self._set_theme, self._set_zoom = set_theme, set_zoom
        self.setWindowTitle("Preferences")
        self.theme = Segmented(MODES)
        self.zoom = Choice(context.theme)
        for step in STEPS:
            self.zoom.addItem(f"{100 * step:.0f} %", step)
        self.zoom.setAccessibleName("Size")
        self.threads = QSpinBox()
        self.threads.setRange(0, psutil.cpu_count() or 1)
        self.threads.setSpecialValueText("automatic")
        self.threads.setAccessibleName("Threads")
        pad_spin_box(self.threads)
        guard_wheel(self.threads)
        sized(self.threads, width=110)
        outside = set_outside()
        self.threads.setEnabled(not outside)
        self.threads_hint = label(
            f"{VARIABLE} is set to {outside} and decides." if outside else "A change needs a restart.", "faint"
        )
        self.notice = QCheckBox("Tell me when work of more than 30 seconds ends while I look elsewhere")
        self.folders = FolderRows(context.preferences, self._choose_folder)
        self.reset = QPushButton("Reset to defaults")
        self.reset.setAutoDefault(False)
        self._lay_out()
        self.show_present()
        self.theme.chosen.connect(lambda value: self._set_theme(ThemeMode(value)))
        self.zoom.activated.connect(lambda _: self._set_zoom(float(self.zoom.currentData())))
        self.threads.valueChanged.connect(lambda value: context.preferences.set(THREADS, value))
        self.notice.toggled.connect(lambda on: context.preferences.set(NOTICE, on))
        self.reset.clicked.connect(self.reset_all)
        history.changed.connect(self.folders.refresh)

    def show_present(self) -> None:
        """Show what is chosen now."""
        preferences = self._context.preferences
        self.theme.set_value(self._context.theme.mode.value)
        nearest = min(STEPS, key=lambda step: abs(step - self._context.theme.zoom))
        self.zoom.setCurrentIndex(STEPS.index(nearest))
        self.threads.setValue(preferences.get(THREADS, 0))
        self.notice.setChecked(preferences.get(NOTICE, True))
        self.folders.refresh()

    def reset_all(self) -> None:
        """Everything here as on the first day; the history and new trained files go to their default folders."""
        self._set_theme(ThemeMode.SYSTEM)
        self._set_zoom(1.0)
        self._context.preferences.set(THREADS, 0)
        self._context.preferences.set(NOTICE, True)
        for place, button in self.folders.default_buttons.items():
            if button.isEnabled():
                self.folders.take(place, None)
        self.show_present()

    def _choose_folder(self, place: Place, folder: Path | None) -> None:
        if place is Place.HISTORY:
            self._history.move_to(folder)
        else:
            choose_folder(place, self._context.preferences, folder)
            self._context.notify(f"{PLACES[place].title} go there from now on; those that exist stay where they are.")

    def _lay_out(self) -> None:
        look, computing, notices, folders = (Card(t) for t in ("Look", "Computing", "Notices", "Folders"))
        look.body.addLayout(row(label("Theme"), self.theme, 1, spacing=12))
        look.body.addLayout(row(label("Size of everything"), self.zoom, 1, spacing=12))
        computing.body.addLayout(row(label("Threads"), self.threads, self.threads_hint, 1, spacing=12))
        notices.body.addWidget(self.notice)
        folders.body.addWidget(self.folders)
        inside = QWidget()
        inside.setObjectName("scrollBody")
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 8, 0)
        column.setSpacing(8)
        for card in (look, computing, notices, folders):
            column.addWidget(card)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(inside)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 12)
        layout.addWidget(scroll, 1)
        layout.addLayout(row(self.reset, 1, buttons))
        self.resize(*(scaled(side) for side in SIZE))
