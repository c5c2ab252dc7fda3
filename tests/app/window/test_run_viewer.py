"""A recorded run in the viewer: text, legend, plots and inspector follow one position, whichever way it is reached."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.inspector.viewer import PLOTS_TAB, RunViewer
from app.replay.timeline import Granularity
from app.theme.apply import ThemeManager
from app.theme.roles import TokenRole
from tests.core.records import strategies

STEPS = strategies.example_steps()


@pytest.fixture
def viewer(theme: ThemeManager, qtbot: QtBot) -> RunViewer:
    viewer = RunViewer(theme)
    qtbot.addWidget(viewer)
    viewer.resize(1100, 700)
    viewer.show()
    viewer.show_run("Where?", STEPS)
    return viewer


def state(viewer: RunViewer) -> tuple[object, ...]:
    """All that follows the position."""
    viewer.tabs.setCurrentIndex(PLOTS_TAB)
    s = viewer.plots.series
    return (
        viewer.text.toPlainText(),
        [viewer.text.role_at(i) for i in range(len(viewer.text.toPlainText()))],
        dict(viewer.legend.counts),
        list(s.tokens),
        viewer.figures.per_call.value.text(),
        viewer.inspector.step.index if viewer.inspector.step else None,
    )


def test_the_whole_run_is_shown_in_its_colours(viewer: RunViewer) -> None:
    assert viewer.text.toPlainText() == "Where? café is open."
    roles = [viewer.text.role_at(i) for i in (3, 7, 9, 10, 11, 14, 19)]
    assert roles == [
        None,
        TokenRole.MODEL,
        TokenRole.MODEL,
        TokenRole.ACCEPTED,
        TokenRole.CORRECTED,
        TokenRole.LOOKUP,
        TokenRole.BONUS,
    ]
    assert viewer.legend.counts == {
        TokenRole.MODEL: 1,
        TokenRole.ACCEPTED: 1,
        TokenRole.LOOKUP: 1,
        TokenRole.CORRECTED: 1,
        TokenRole.BONUS: 1,
        TokenRole.GHOST: 2,
    }


@pytest.mark.parametrize("ghosts", [False, True])
@pytest.mark.parametrize("granularity", list(Granularity))
def test_going_back_or_forth_shows_the_same(viewer: RunViewer, granularity: Granularity, ghosts: bool) -> None:
    viewer.text.set_ghosts(ghosts)
    viewer.replay.granularity = granularity
    viewer.replay.seek(0)
    forth: dict[int, tuple[object, ...]] = {0: state(viewer)}
    while viewer.replay.shown < 5:
        viewer.replay.step(1)
        forth[viewer.replay.shown] = state(viewer)
    back: dict[int, tuple[object, ...]] = {5: state(viewer)}
    while viewer.replay.shown > 0:
        viewer.replay.step(-1)
        back[viewer.replay.shown] = state(viewer)
    assert forth == back
    assert sorted(forth) == ([0, 1, 2, 3, 4, 5] if granularity is Granularity.TOKEN else [0, 2, 3, 5])


def test_half_a_step_shows_half_its_tokens_and_its_whole_call(viewer: RunViewer) -> None:
    viewer.replay.seek(1)
    assert viewer.text.toPlainText() == "Where? caf"
    viewer.tabs.setCurrentIndex(PLOTS_TAB)
    assert viewer.plots.series.tokens == [2]
    assert viewer.inspector.step is STEPS[0]


def test_a_click_on_a_token_opens_its_step_at_that_token(viewer: RunViewer, qtbot: QtBot) -> None:
    document = viewer.text
    cursor = document.textCursor()
    cursor.setPosition(12)  # within " is"
    place = document.cursorRect(cursor).center()
    qtbot.mouseClick(document.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert viewer.inspector.step is STEPS[1]
    assert viewer.inspector.contest is not None
    assert viewer.inspector.contest.token.text == " is"
    assert viewer.inspector.verdict_title.text() == "Corrected"
    assert viewer.replay.shown == 5  # the text stays as it is


def test_a_click_on_a_node_of_the_tree_opens_its_position(viewer: RunViewer, qtbot: QtBot) -> None:
    viewer.inspect_token(0)
    assert viewer.inspector.verdict_title.text() == "Sampled"
    place = viewer.inspector.tree.rect_of(0).center().toPoint()
    qtbot.mouseClick(viewer.inspector.tree, Qt.MouseButton.LeftButton, pos=place)
    assert viewer.inspector.verdict_title.text() == "Accepted"
    assert viewer.inspector.place.text().startswith("token 2")


def test_the_scrubber_moves_everything(viewer: RunViewer) -> None:
    viewer.bar.slider.setValue(3)
    assert viewer.replay.shown == 3
    assert viewer.text.toPlainText() == "Where? café is"
    assert viewer.inspector.step is STEPS[1]
    assert viewer.bar.place.text().startswith("3 of 5 tokens")
