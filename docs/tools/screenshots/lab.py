"""Takes the pictures of the Benchmark and Losslessness pages by driving the real window; every figure was measured.

    python docs/tools/screenshots/lab.py [--model …] [other options of main.py]

Measures once (a quick benchmark with two-call PASS, the quick proofs, the proofs with the wrong rule, a few HumanEval
problems: some minutes), then takes every picture in both themes. The pictures go beside this file.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import drive
from PySide6.QtWidgets import QTabWidget

from app.benchmark.page import BenchmarkPage
from app.losslessness.page import LosslessnessPage
from pass_core.evaluation.losslessness.plan import QUICK, Proof


class Photographer(drive.Photographer):
    """Measures, and takes each page in both themes."""

    patience_seconds = 1800.0

    async def walk(self) -> None:
        await drive.until(lambda: self.context.model is not None and self.context.lookahead is not None)
        await self.idle()
        self.window.show_page("losslessness")
        proofs = self.window.findChild(LosslessnessPage)
        self.window.show_page("benchmark")
        page = self.window.findChild(BenchmarkPage)
        assert page is not None
        assert proofs is not None
        form = page.speed.form
        form.two_call.setChecked(True)
        form.ks.setText("1, 2, 3, 5")
        form.minutes.setValue(2)
        page.speed.start()
        await self.idle()
        await self.shoot("benchmark")
        tabs = page.findChild(QTabWidget)
        assert tabs is not None
        tabs.setCurrentWidget(page.humaneval)
        page.humaneval.consent.setChecked(True)
        page.humaneval.problems.setValue(12)
        page.humaneval.start()
        await self.idle()
        await self.shoot("humaneval")
        self.window.show_page("losslessness")
        proofs.start()
        await self.idle()
        await self.shoot("losslessness")
        proofs.wrong_rule.setChecked(True)
        proofs.start(replace(QUICK, proofs=(Proof.DISTRIBUTION,), wrong_rule=True, draws=10))
        await self.idle()
        await self.shoot("losslessness-wrong-rule")


def main(arguments: list[str]) -> None:
    drive.in_window(
        ["--size", "1280x800", "--exit-after-run", *arguments], lambda program: Photographer(program).walk()
    )


if __name__ == "__main__":
    main(sys.argv[1:])
