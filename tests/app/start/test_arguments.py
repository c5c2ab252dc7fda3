"""The window's own command line."""

from __future__ import annotations

from typing import get_args

import pytest

from app.start.arguments import parse
from pass_core.models.quantize import QuantizeChoice


@pytest.mark.parametrize("choice", get_args(QuantizeChoice))
def test_every_kind_of_weights_can_be_asked_for(choice: str) -> None:
    assert parse(["--quantize", choice]).quantize == choice


def test_other_kinds_of_weights_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--quantize", "int3"])
    assert "gguf" in capsys.readouterr().err
