"""Which boxes this machine can put around a program."""

from __future__ import annotations

import sys

import pytest

from pass_core.evaluation.sandbox.run import Box, best_box

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="seccomp, Landlock and namespaces are Linux's")


def require(box: Box) -> Box:
    """Skip where this machine cannot have it."""
    if box is Box.BUBBLEWRAP and best_box() is not Box.BUBBLEWRAP:
        pytest.skip("bubblewrap is not installed or does not work here")
    return box
