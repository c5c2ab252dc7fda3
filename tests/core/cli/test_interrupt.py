"""Ctrl-C while a command works."""

from __future__ import annotations

import signal
import threading

import pytest

from pass_core.cli.interrupt import KEPT, interrupt_cancels
from pass_core.progress import CancelToken


def test_the_first_cancels_and_the_second_ends(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    cancel = CancelToken()
    with interrupt_cancels(cancel, KEPT):
        signal.raise_signal(signal.SIGINT)
        assert cancel.cancelled
        assert capsys.readouterr().err.count("Stopping") == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_message_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    cancel = CancelToken()
    with interrupt_cancels(cancel):
        signal.raise_signal(signal.SIGINT)
    assert cancel.cancelled
    assert capsys.readouterr().err == ""


def test_in_another_thread_it_does_nothing() -> None:
    """Python refuses signal handlers there."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with interrupt_cancels(CancelToken()):
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []
