"""The compiled library: tests that need it skip without it, so its absence must not go unnoticed."""

from __future__ import annotations

import os

import pytest

from pass_core.runtime.native.build import _compiler, library


def test_where_there_is_a_compiler_the_library_builds() -> None:
    if _compiler() is None or os.environ.get("PASS_NO_NATIVE"):
        pytest.skip("no C++ compiler on this machine")
    assert library() is not None
