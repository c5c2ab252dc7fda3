"""Takes the pictures of “Where drafts fall short” by measuring the default model's look-ahead file in the real window.

    python docs/tools/screenshots/drafts.py [--theme light|dark] [--report FILE.json]

With --report it shows what `train --evaluate … --report FILE.json` has measured. Without --theme both are taken, one
process each; the second shows what the first has measured.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import drive
from drive import until

from app.application import Program
from app.training.page import TrainPage
from app.training.plan import SELF
from app.training.views import SHORTFALL
from pass_core.training.report import DraftReport


async def take(program: Program, theme: str, report: str) -> None:
    """The view with the report of the loaded file."""
    await until(lambda: program.context.lookahead is not None)
    page = program.window.page("train")
    assert isinstance(page, TrainPage)
    page.form.source.set_value(SELF)
    program.window.show_page("train")
    page.views.show_view(SHORTFALL)
    if report:
        page.report.show_report(DraftReport.from_json(Path(report).read_text(encoding="utf-8")))
    elif page.report.report is None:
        await until(lambda: page.report.bar.free)
        page.report.measure()
        await until(lambda: page.report.report is not None)
        await until(lambda: not page.report.job.active)
    await drive.shoot(program, "train-drafts", theme)


def main(arguments: list[str]) -> None:
    """Both themes in processes of their own, or the one that was asked for."""
    theme = drive.theme_of(__file__, arguments)
    if theme:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        report = ""
        if "--report" in arguments:
            place = arguments.index("--report")
            report = arguments[place + 1]
            del arguments[place : place + 2]
        words = ["--size", "1280x800", "--exit-after-run", *arguments]
        drive.in_window(words, lambda program: take(program, theme, report))


if __name__ == "__main__":
    main(sys.argv[1:])
