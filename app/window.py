"""The main window: pages behind a navigation rail, menus, banner, status line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QActionGroup, QCloseEvent, QDragEnterEvent, QDragLeaveEvent, QDropEvent, QKeySequence
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QMenu,
    QScrollArea,
    QStatusBar,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.generate.page import GeneratePage
from app.state.context import AppContext, ErrorReport
from app.state.loader import Loader
from app.state.preferences import Preferences
from app.theme.apply import ThemeMode
from app.theme.icons import set_icon
from app.theme.scale import next_step, sized
from app.widgets.banner import Banner
from app.widgets.embedding_card import SUFFIXES
from app.widgets.find_bar import FindBar
from app.widgets.help import HelpDialog
from app.widgets.log import LogDialog, LogKeeper
from app.widgets.page import Page
from app.widgets.page_room import PageRoom
from app.widgets.status import StatusLine
from app.widgets.token_view import TokenView

if TYPE_CHECKING:
    from pass_core.lookahead.embeddings import LookaheadEmbeddings

TITLE = "PASS Playground"
DEFAULT_SIZE = QSize(1280, 800)
MINIMUM_SIZE = QSize(640, 420)
RAIL_WIDTH = 81
CLOSE_PATIENCE_MS = 3000  # then the work is left behind; with the history and the settings all is over in 5 s


class MainWindow(QMainWindow):
    """Holds the pages.

    Attributes:
        generate: the Generate page.
        banner, status: the strips above and below.

    Signals:
        closed(): everything behind the window has ended, or had its time to; the application may quit.
    """

    closed = Signal()

    def __init__(self, context: AppContext, loader: Loader, log: LogKeeper) -> None:
        super().__init__()
        self._context, self.loader, self._log = context, loader, log
        self._pages: dict[str, Page] = {}
        self._buttons: dict[str, QToolButton] = {}
        self._closing = False
        self._patience = QTimer(self)
        self._log_dialog: LogDialog | None = None
        self.setWindowTitle(TITLE)
        self.setMinimumSize(MINIMUM_SIZE)
        self.resize(DEFAULT_SIZE)
        self.setAcceptDrops(True)
        self.status = StatusLine(context)
        self.generate = GeneratePage(context, loader)
        self._lay_out()
        self._make_menus()
        self.add_page("generate", "Generate", "ph.pencil-line", self.generate)
        self.status.shown_run = lambda: self._current.shown_run() if self._current is not None else None
        self.generate.run_started.connect(self.status.show_figures)
        context.session.steps_arrived.connect(self.find_bar.stale)
        context.error_raised.connect(self._show_error)
        context.notice_raised.connect(self.banner.show_notice)
        context.session.run_started.connect(self.banner.overcome)
        context.page_requested.connect(self.show_page)
        loader.failed.connect(self._load_failed)
        context.lookahead_changed.connect(self._ready)

    # -- pages -----------------------------------------------------------------------------------------------------

    def add_page(self, key: str, title: str, icon: str, page: Page) -> None:
        """Add a page to the rail."""
        button = QToolButton()
        button.setText(title)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        sized(button, icon=22)
        button.setCheckable(True)
        button.setProperty("role", "rail")
        sized(button, width=72, height=56)
        set_icon(button, icon, self._context.theme)
        button.clicked.connect(lambda: self.show_page(key))
        number = len(self._pages) + 1
        if number <= 9:
            button.setShortcut(QKeySequence(f"Ctrl+{number}"))
            button.setToolTip(f"{title} (Ctrl+{number})")
        self._rail_group.addButton(button)
        self._rail_layout.insertWidget(len(self._pages), button)
        self._pages[key], self._buttons[key] = page, button
        self._stack.add(page)
        if actions := page.actions_for_menu():
            menu = QMenu(title, self)
            menu.addActions(actions)
            self.menuBar().insertMenu(self._view_menu.menuAction(), menu)
        if len(self._pages) == 1:
            self.show_page(key)

    def show_page(self, key: str) -> None:
        """Bring a page to the front."""
        page = self._pages.get(key)
        if page is None:
            return
        previous = self._current
        self._buttons[key].setChecked(True)
        if previous is page:
            return
        if previous is not None:
            previous.page_hidden()
        wandering = self.focusWidget()
        self._stack.show_page(page)
        self._current = page
        if wandering is None or not self._rail.isAncestorOf(wandering):
            page.setFocus(Qt.FocusReason.OtherFocusReason)  # Qt would give it to the rail, and the ring would show
        page.page_shown()
        self.status.show_figures()
        self.find_bar.stale()

    def _shown_texts(self) -> list[TokenView]:
        page = self._current
        return [t for t in page.findChildren(TokenView) if t.isVisible()] if page is not None else []

    def come_to_front(self) -> None:
        """Another start of the program asked for this window."""
        self.setWindowState(self.windowState() & ~Qt.WindowState.WindowMinimized)
        self.show()
        self.raise_()
        self.activateWindow()

    def zoom(self, steps: int) -> None:
        """Everything larger or smaller; 0 goes back to the usual size, also of texts that the wheel has changed."""
        if not steps:
            for view in self.findChildren(TokenView):
                view.reset_zoom()
        self.set_zoom(next_step(steps) if steps else 1.0)

    def set_zoom(self, factor: float) -> None:
        """Draw the whole window at this size, and remember it."""
        self._context.theme.set_zoom(factor)
        self._context.preferences.set("view/zoom", self._context.theme.zoom)

    def page(self, key: str) -> Page:
        """A page by its key."""
        return self._pages[key]

    # -- state -----------------------------------------------------------------------------------------------------

    def _show_error(self, report: ErrorReport) -> None:
        self.banner.show_error(report)

    def _load_failed(self, sentence: str) -> None:
        if sentence:
            self.status.set_state("The model could not be loaded", "bad")
        else:
            self.status.set_state("Loading cancelled")

    def _ready(self, lookahead: LookaheadEmbeddings | None) -> None:
        if not self._context.session.running:
            self.status.set_state("Ready" if lookahead is not None else "No model is loaded")

    # -- parts -----------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self._current: Page | None = None
        rail = self._rail = QFrame()
        rail.setObjectName("rail")
        self._rail_layout = QVBoxLayout(rail)
        self._rail_layout.setContentsMargins(4, 8, 4, 8)
        self._rail_layout.setSpacing(4)
        self._rail_layout.addStretch(1)
        self._rail_group = QButtonGroup(self)
        self._theme_button = QToolButton()
        self._theme_button.setProperty("role", "rail")
        sized(self._theme_button, width=72, height=40)
        sized(self._theme_button, icon=20)
        self._theme_button.setToolTip("Light or dark")
        self._theme_button.setAccessibleName("Light or dark")
        self._theme_button.clicked.connect(self._toggle_theme)
        self._rail_layout.addWidget(self._theme_button)
        self._stack = PageRoom()
        self.banner = Banner(self._context.theme, self._stack)
        body = QWidget()
        layout = QHBoxLayout(body)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        scroll = QScrollArea()  # many pages, or a large zoom
        scroll.setWidget(rail)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        sized(scroll, width=RAIL_WIDTH)
        layout.addWidget(scroll)
        self.find_bar = FindBar(self._context.theme, self._shown_texts)
        right = QVBoxLayout()
        right.setSpacing(0)
        right.addWidget(self._stack, 1)
        right.addWidget(self.find_bar)
        layout.addLayout(right, 1)
        self.setCentralWidget(body)
        bar = QStatusBar()
        bar.setSizeGripEnabled(False)
        bar.addWidget(self.status, 1)
        self.setStatusBar(bar)
        self._drop_hint = QLabel("Drop to load", self)
        self._drop_hint.setObjectName("dropHint")
        self._drop_hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._drop_hint.hide()
        self._show_theme_icon()
        self._context.theme.changed.connect(self._show_theme_icon)

    def _make_menus(self) -> None:
        bar = self.menuBar()
        file_menu = bar.addMenu("File")
        file_menu.addActions(self.generate.actions_for_file_menu())
        file_menu.addSeparator()
        file_menu.addAction("Quit", QKeySequence.StandardKey.Quit, self.close)
        self._view_menu = bar.addMenu("View")
        themes = self._view_menu.addMenu("Theme")
        self._theme_group = QActionGroup(self)
        for mode, text in (
            (ThemeMode.SYSTEM, "Follow the system"),
            (ThemeMode.LIGHT, "Light"),
            (ThemeMode.DARK, "Dark"),
        ):
            action = QAction(text, self, checkable=True)
            action.setData(mode.value)
            action.setChecked(self._context.theme.mode is mode)
            action.triggered.connect(lambda _=False, m=mode: self.set_theme(m))
            self._theme_group.addAction(action)
            themes.addAction(action)
        self.find_bar.add_to_menu(self._view_menu)
        larger = self._view_menu.addAction("Larger", lambda: self.zoom(1))
        larger.setShortcuts([*QKeySequence.keyBindings(QKeySequence.StandardKey.ZoomIn), QKeySequence("Ctrl+=")])
        self._view_menu.addAction("Smaller", QKeySequence.StandardKey.ZoomOut, lambda: self.zoom(-1))
        self._view_menu.addAction("Usual size", QKeySequence("Ctrl+0"), lambda: self.zoom(0))
        help_menu = bar.addMenu("Help")
        help_menu.addAction("Help…", QKeySequence.StandardKey.HelpContents, self.show_help)
        help_menu.addAction("Keyboard shortcuts…", QKeySequence("Ctrl+/"), self.show_help)
        help_menu.addAction("Log…", self.show_log)
        help_menu.addAction("About…", self.show_about)
        self.file_menu, self.help_menu = file_menu, help_menu

    def show_log(self) -> None:
        """Open the log."""
        self._log_dialog = LogDialog(self._log, self)
        self._log_dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._log_dialog.show()

    def show_help(self) -> None:
        """Open the help."""
        dialog = HelpDialog(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def show_about(self) -> None:
        """Open the about box."""
        from app.start.about import about_box

        about_box(self).open()

    def set_theme(self, mode: ThemeMode) -> None:
        """Choose a theme and remember it."""
        self._context.theme.set_mode(mode)
        self._context.preferences.set("theme", mode.value)
        for action in self._theme_group.actions():
            action.setChecked(action.data() == mode.value)

    def _toggle_theme(self) -> None:
        self.set_theme(ThemeMode.LIGHT if self._context.theme.current.dark else ThemeMode.DARK)

    def _show_theme_icon(self, *_: object) -> None:
        dark = self._context.theme.current.dark
        set_icon(self._theme_button, "ph.sun" if dark else "ph.moon", self._context.theme)

    # -- drag and drop ---------------------------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        kind = dropped_kind([u.toLocalFile() for u in event.mimeData().urls()])
        if kind is None:
            return
        what = "model" if kind[0] == "model" else "look-ahead embeddings"
        self._drop_hint.setText(f"Drop to load as {what}\n{Path(kind[1]).name}")
        self._drop_hint.setGeometry(self.rect().adjusted(24, 24, -24, -24))
        self._drop_hint.raise_()
        self._drop_hint.show()
        event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self._drop_hint.hide()

    def dropEvent(self, event: QDropEvent) -> None:
        self._drop_hint.hide()
        kind = dropped_kind([u.toLocalFile() for u in event.mimeData().urls()])
        if kind is None:
            return
        event.acceptProposedAction()
        what, path = kind
        if what == "model":
            self.loader.load(self.loader.choice_of(path))
        else:
            self.loader.load_lookahead(path)

    # -- between two starts ---------------------------------------------------------------------------------------

    def remember(self, preferences: Preferences) -> None:
        """Keep size and arrangement."""
        preferences.set_bytes("window/geometry", self.saveGeometry())
        for page in self._pages.values():
            page.remember(preferences)

    def restore(self, preferences: Preferences, size: tuple[int, int] | None = None) -> None:
        """Take size (`size` counts more) and arrangement as they were."""
        geometry = preferences.get_bytes("window/geometry")
        if size is not None:
            self.resize(*size)
        elif not geometry.isEmpty():
            self.restoreGeometry(geometry)
        for page in self._pages.values():
            page.restore(preferences)

    # -- closing ---------------------------------------------------------------------------------------------------

    def closeEvent(self, event: QCloseEvent) -> None:
        """The first close cancels all work; the window closes when that has ended, or when patience has."""
        if self._closing:
            event.accept()
            return
        event.ignore()
        self._closing = True
        for page in self._pages.values():
            page.shut_down()
        self._context.stop_everything()
        self.status.set_closing()
        self.setEnabled(False)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self._leave)
        self._patience.start(CLOSE_PATIENCE_MS)
        self._wait_for_work()

    def _wait_for_work(self) -> None:
        """Looks every few milliseconds, so that the window stays alive while the last model call ends."""
        if not self._patience.isActive():
            return
        if self._context.working:
            QTimer.singleShot(20, self._wait_for_work)
        else:
            self._leave()

    def _leave(self) -> None:
        """The work has ended, or it does not look at its cancel token: what is written is safe either way."""
        self._patience.stop()
        self.hide()
        self.closed.emit()


def dropped_kind(paths: list[str]) -> tuple[str, str] | None:
    """What dropped files are: ("model" or "lookahead", path), None when nothing can be done with them."""
    for text in paths:
        path = Path(text)
        if path.is_dir() or path.suffix.lower() == ".gguf":
            return "model", text
        if path.suffix.lower() in SUFFIXES:
            return "lookahead", text
    return None
