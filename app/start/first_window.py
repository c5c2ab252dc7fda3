"""A second start brings the first window to the front instead of loading the model twice."""

from __future__ import annotations

import getpass
import hashlib
import logging

from PySide6.QtCore import QObject, Signal

try:
    from PySide6 import QtNetwork
except ImportError:  # it needs system libraries that not every machine has
    QtNetwork = None

log = logging.getLogger(__name__)

PATIENCE_MS = 1000
RAISE = b"raise\n"


def server_name() -> str:
    """The same for every start of this user."""
    user = getpass.getuser()
    return f"pass-playground-{hashlib.sha256(user.encode()).hexdigest()[:12]}"


def raise_first(name: str) -> bool:
    """Ask a window that is open already to come to the front; False when there is none."""
    if QtNetwork is None:
        return False
    socket = QtNetwork.QLocalSocket()
    socket.connectToServer(name)
    if not socket.waitForConnected(PATIENCE_MS):
        return False
    socket.write(RAISE)
    written = socket.waitForBytesWritten(PATIENCE_MS)
    socket.disconnectFromServer()
    return written


class FirstWindow(QObject):
    """Listens for later starts.

    Signals:
        asked(): another start wants this window in front.
    """

    asked = Signal()

    def __init__(self, name: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._server = None
        if QtNetwork is None:
            log.info("later starts will not find this window: QtNetwork is missing")
            return
        QtNetwork.QLocalServer.removeServer(name)  # of a program that was killed
        self._server = QtNetwork.QLocalServer(self)
        self._server.setSocketOptions(QtNetwork.QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._connected)
        if not self._server.listen(name):
            log.info("later starts will not find this window: %s", self._server.errorString())

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    def _connected(self) -> None:
        assert self._server is not None
        while (socket := self._server.nextPendingConnection()) is not None:
            socket.disconnected.connect(socket.deleteLater)
            self.asked.emit()
