"""Finds out, before Qt would abort, whether a window can be shown."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Mapping

XCB_PACKAGES = "libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 libxcb-keysyms1 libegl1"


def why_no_window(environment: Mapping[str, str] | None = None) -> str:
    """A plain sentence when no window can be shown here, "" when one can."""
    env = os.environ if environment is None else environment
    if not sys.platform.startswith("linux") or env.get("QT_QPA_PLATFORM"):
        return ""
    if not env.get("DISPLAY") and not env.get("WAYLAND_DISPLAY"):
        return (
            "There is no display (neither DISPLAY nor WAYLAND_DISPLAY is set). Start it from a desktop session, "
            "use --screenshot FILE to get a picture instead, or python -m pass_core for the command line."
        )
    if env.get("WAYLAND_DISPLAY"):
        return ""
    return _why_no_x11(env.get("DISPLAY", ""))


def _why_no_x11(display: str) -> str:
    if ctypes.util.find_library("xcb-cursor") is None:
        return (
            "Qt needs a few system libraries to open a window under X11, and libxcb-cursor is missing. "
            f"On Debian or Ubuntu: sudo apt install {XCB_PACKAGES}"
        )
    name = ctypes.util.find_library("xcb")
    if name is None:
        return ""
    xcb = ctypes.CDLL(name)
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connection_has_error.argtypes = [ctypes.c_void_p]
    xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    connection = xcb.xcb_connect(display.encode(), None)
    refused = bool(xcb.xcb_connection_has_error(connection))
    xcb.xcb_disconnect(connection)
    if refused:
        return (
            f"The display “{display}” does not answer. Check DISPLAY, use --screenshot FILE to get a picture instead, "
            "or python -m pass_core for the command line."
        )
    return ""
