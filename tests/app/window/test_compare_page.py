"""The Compare page on a tiny model: both panes, the verdict, and what makes it void."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pytestqt.qtbot import QtBot

from app.compare.head import CompareHead
from app.compare.page import ComparePage
from app.compare.pane_setup import UNTRAINED, PaneWish
from app.compare.ready import PLAIN, READY
from app.compare.runner import ComparisonPlan, PaneChoice, RoundOrder
from app.state.context import AppContext
from app.state.setup import GenerationSetup, setup_from
from app.theme.roles import TokenRole
from app.widgets.controls import DecodingControls
from pass_core.decoding.events import StopReason
from pass_core.models.shipped import default_lookahead
from pass_core.settings import (
    Baseline,
    BaselineSettings,
    DecodingSettings,
    LookaheadPart,
    SamplingSettings,
    StopConditions,
    Strategy,
    Verification,
)

TOKENS = 24
FORCED = DecodingSettings(k=3, auto=False)
TWO_CALL = DecodingSettings(strategy=Strategy.TWO_CALL, k=3)


@pytest.fixture
def page(ready: AppContext, qtbot: QtBot) -> ComparePage:
    assert ready.model is not None
    ready.set_lookahead(default_lookahead(ready.model))
    ready.setup.set(GenerationSetup("The sea", seed=5, stop=StopConditions(TOKENS, ignore_eos=True)))
    page = ComparePage(ready)
    page.head.rounds.setValue(1)
    page.head.order.setCurrentText(RoundOrder.A_FIRST.value)
    qtbot.addWidget(page)
    page.resize(1200, 740)
    page.show()
    return page


def compare(page: ComparePage, qtbot: QtBot, a: PaneWish, b: PaneWish) -> None:
    page.panes[0].setup.set_wish(a)
    page.panes[1].setup.set_wish(b)
    with qtbot.waitSignal(page.runner.finished, timeout=120_000):
        page.compare()


def texts(page: ComparePage) -> list[str]:
    return [p.text.plain_text() for p in page.panes]


@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.2])
@pytest.mark.parametrize("drafting", [TWO_CALL, FORCED], ids=["two-call", "fused"])
def test_both_panes_show_the_same_text(
    page: ComparePage, ready: AppContext, qtbot: QtBot, drafting: DecodingSettings, temperature: float
) -> None:
    for seed in (1, 2):
        setup = replace(ready.setup.value, seed=seed, settings=DecodingSettings(sampling=SamplingSettings(temperature)))
        ready.setup.set(setup)
        compare(page, qtbot, PaneWish(PLAIN), PaneWish(drafting))
        first, second = texts(page)
        assert first == second != ""
        assert page.strip.badge.text() == f"identical ({TOKENS} tokens)"
        assert page.strip.badge.property("tone") == "good"
        assert not page.strip.detail.isVisible()


def test_rejection_diverges_by_design_and_both_panes_mark_it(
    page: ComparePage, ready: AppContext, qtbot: QtBot
) -> None:
    ready.setup.set(replace(ready.setup.value, settings=DecodingSettings(sampling=SamplingSettings(1.5, 0))))
    rejection = replace(TWO_CALL, verification=Verification.REJECTION)
    compare(page, qtbot, PaneWish(PLAIN), PaneWish(rejection))
    a, b = (r[0].tokens for r in page.runner.results)
    first = next(i for i, (x, y) in enumerate(zip(a, b)) if x.id != y.id)
    assert page.strip.badge.text() == f"diverges at token {first + 1}"
    assert "by design" in page.strip.detail.text()
    for pane in page.panes:
        (mark,) = pane.text.extraSelections()
        assert sum(pane.legend.counts[r] for r in TokenRole if r is not TokenRole.GHOST) == TOKENS
        assert mark.cursor.selectionStart() == len("The sea") + sum(len(t.text) for t in (a, b)[pane.number][:first])


def test_warm_ups_come_first_and_the_order_is_chosen(page: ComparePage, ready: AppContext, qtbot: QtBot) -> None:
    runs: list[tuple[bool, Strategy]] = []
    ready.session.run_started.connect(lambda r: runs.append((r.request.recorded, r.request.settings.strategy)))
    page.head.order.setCurrentText(RoundOrder.ALTERNATE.value)
    page.head.rounds.setValue(2)
    compare(page, qtbot, PaneWish(PLAIN), PaneWish(TWO_CALL))
    plain, pass_ = Strategy.AUTOREGRESSIVE, Strategy.TWO_CALL
    assert runs == [
        (False, plain),
        (False, pass_),
        (True, plain),
        (True, pass_),
        (True, pass_),
        (True, plain),
    ]
    assert page.strip.speed_up.remark.text() == "median of 2 rounds"  # too few for an interval


def test_a_moved_slider_takes_effect_and_voids_the_comparison(
    page: ComparePage, ready: AppContext, qtbot: QtBot
) -> None:
    ready.setup.set(replace(ready.setup.value, stop=StopConditions(200, ignore_eos=True)))

    def move(pane: int, number: int, steps: object) -> None:
        page.runner.steps_arrived.disconnect(move)
        ready.setup.set(replace(ready.setup.value, settings=DecodingSettings(sampling=SamplingSettings(0.3))))

    page.runner.steps_arrived.connect(move)
    compare(page, qtbot, PaneWish(PLAIN), PaneWish(FORCED))
    assert page.strip.badge.text() == "void"
    assert "sampling was changed" in page.strip.detail.text()
    assert page.runner.results[1][0].settings.sampling != SamplingSettings(0.3)


LOOKUP = BaselineSettings(k=4)


def test_transformers_lookup_writes_the_same_text_at_temperature_0(
    page: ComparePage, ready: AppContext, qtbot: QtBot
) -> None:
    ready.setup.set(replace(ready.setup.value, settings=DecodingSettings(sampling=SamplingSettings(0.0))))
    compare(page, qtbot, PaneWish(PLAIN), PaneWish(LOOKUP))
    first, second = texts(page)
    assert first == second != ""
    assert page.strip.badge.text() == f"identical ({TOKENS} tokens)"
    run = page.runner.runs[1]
    assert run is not None
    assert run.request.label == "B: transformers lookup, k 4"
    assert run.request.lookahead is None
    assert {s.settings.strategy for s in run.events} == {Baseline.TRANSFORMERS}
    assert run.summary.accepted == run.summary.sources.get("prompt-lookup", 0)
    assert run.summary.new_tokens == TOKENS


def test_transformers_lookup_draws_its_own_numbers_and_the_badge_says_so(
    page: ComparePage, ready: AppContext, qtbot: QtBot
) -> None:
    ready.setup.set(replace(ready.setup.value, settings=DecodingSettings(sampling=SamplingSettings(1.5, 0))))
    compare(page, qtbot, PaneWish(FORCED), PaneWish(LOOKUP))
    assert page.strip.badge.text().startswith("diverges at token")
    assert page.strip.badge.property("tone") == "accent"
    assert "random numbers of its own" in page.strip.detail.text()


def test_stop_ends_transformers_too(page: ComparePage, ready: AppContext, qtbot: QtBot) -> None:
    ready.setup.set(replace(ready.setup.value, stop=StopConditions(240, ignore_eos=True)))
    page.runner.steps_arrived.connect(lambda *_: page.stop())
    compare(page, qtbot, PaneWish(LOOKUP), PaneWish(PLAIN))
    run = page.runner.runs[0]
    assert run is not None
    assert run.events[-1].stop_reason is StopReason.CANCELLED
    assert run.summary.new_tokens < 240


def test_what_transformers_does_not_take_is_greyed_out(page: ComparePage) -> None:
    setup = page.panes[1].setup
    setup.set_wish(PaneWish(LOOKUP))
    assert setup.k.isEnabled()
    for widget in (setup.auto, setup.verification, setup.lookahead, setup.options):
        assert not widget.isEnabled()
    assert setup.wish().settings.strategy is Baseline.TRANSFORMERS


def test_running_a_pane_s_lookup_again_leads_back_here(page: ComparePage, ready: AppContext, qtbot: QtBot) -> None:
    with qtbot.waitSignal(ready.page_requested) as shown:
        ready.apply_setup(setup_from("The sea", False, 5, replace(LOOKUP, k=7), StopConditions(TOKENS)))
    assert ready.setup.value.baseline is None
    assert ready.setup.value.settings.strategy is Strategy.FUSED
    assert shown.args == ["compare"]
    assert page.panes[1].setup.wish().settings.k == 7
    assert page.panes[1].setup.wish().settings.strategy is Baseline.TRANSFORMERS


def test_stop_ends_it_at_once(page: ComparePage, ready: AppContext, qtbot: QtBot) -> None:
    ready.setup.set(replace(ready.setup.value, stop=StopConditions(240, ignore_eos=True)))
    page.runner.steps_arrived.connect(lambda *_: page.stop())
    compare(page, qtbot, PaneWish(PLAIN), PaneWish(FORCED))
    assert not ready.session.running
    assert page.runner.results[1] == []
    assert "stopped" in page.strip.detail.text()
    assert page.head.compare_button.isEnabled()


def test_a_slider_moved_while_files_are_read_counts_for_both(
    page: ComparePage, ready: AppContext, qtbot: QtBot
) -> None:
    page.panes[0].setup.set_wish(PaneWish(PLAIN))
    page.panes[1].setup.set_wish(PaneWish(FORCED))
    with qtbot.waitSignal(page.runner.finished, timeout=120_000):
        page.compare()
        ready.setup.set(replace(ready.setup.value, settings=DecodingSettings(sampling=SamplingSettings(0.3))))
    assert {r[0].settings.sampling.temperature for r in page.runner.results} == {0.3}
    assert page.strip.badge.text().startswith("identical")


def test_each_pane_has_its_own_embeddings_and_parts(page: ComparePage, ready: AppContext, qtbot: QtBot) -> None:
    off = replace(FORCED, k=2, disabled_parts=frozenset({LookaheadPart.SAMPLER}))
    compare(page, qtbot, PaneWish(FORCED), PaneWish(off, UNTRAINED))
    first, second = (r.request for r in page.runner.runs if r is not None)
    assert first.lookahead is ready.lookahead
    assert second.lookahead is not None
    assert second.lookahead is not ready.lookahead
    assert "untrained" in second.lookahead.origin
    assert second.settings.disabled_parts == off.disabled_parts
    assert second.settings.k == 2
    assert second.label == "B: PASS fused k 2, untrained, without sampler"


def test_a_file_that_does_not_fit_is_refused_in_plain_words(page: ComparePage, ready: AppContext, qtbot: QtBot) -> None:
    page.panes[1].setup.set_wish(PaneWish(FORCED, "absent.safetensors"))
    with qtbot.waitSignal(ready.error_raised, timeout=30_000) as raised:
        page.compare()
    assert "no file" in raised.args[0].sentence
    assert page.head.compare_button.isEnabled()


def test_the_race_shows_each_run_at_its_recorded_time(page: ComparePage, qtbot: QtBot) -> None:
    compare(page, qtbot, PaneWish(PLAIN), PaneWish(TWO_CALL))
    whole, counts = texts(page), [dict(p.legend.counts) for p in page.panes]
    for share in (0.5, 0.2, 0.8):
        page.race.seek(page.race.duration * share)
        for i, pane in enumerate(page.panes):
            timeline = page.race.timelines[i]
            shown = timeline.shown_at(page.race.clock)
            assert pane.text.plain_text() == "".join(timeline.token(t).text for t in range(shown))
            assert sum(pane.legend.counts[r] for r in TokenRole if r is not TokenRole.GHOST) == shown
    page.race.speed = 50.0
    with qtbot.waitSignal(page.race.playing_changed, timeout=60_000, check_params_cb=lambda on: not on):
        page.race.toggle()
    assert texts(page) == whole
    assert [p.legend.counts for p in page.panes] == counts


def test_the_panes_scroll_together(page: ComparePage, ready: AppContext, qtbot: QtBot) -> None:
    ready.setup.set(replace(ready.setup.value, prompt_text="The sea\n" * 60))
    compare(page, qtbot, PaneWish(PLAIN), PaneWish(TWO_CALL))
    left, right = (p.text.verticalScrollBar() for p in page.panes)
    assert left.maximum() > 10
    left.setValue(left.maximum() // 2)
    assert right.value() == left.value()
    right.setValue(0)
    assert left.value() == 0


def test_both_texts_begin_at_the_same_height(page: ComparePage, ready: AppContext, qtbot: QtBot) -> None:
    page.resize(800, 700)
    ready.setup.set(replace(ready.setup.value, settings=DecodingSettings(sampling=SamplingSettings(1.5, 0))))
    compare(page, qtbot, PaneWish(PLAIN), PaneWish(replace(FORCED, prompt_lookup=True)))
    left, right = (p.legend for p in page.panes)
    assert left.height() == right.height() >= right.heightForWidth(right.width())
    assert not left._entries[TokenRole.BONUS].isVisible()  # plain decoding has no bonus


def test_the_texts_go_before_the_plots(page: ComparePage, qtbot: QtBot) -> None:
    page.resize(792, 500)
    assert not page.overlay.isVisible()
    for pane in page.panes:
        assert pane.setup.height() >= pane.setup.minimumSizeHint().height()
        assert pane.text.height() > 60
    assert page.strip._grid.itemAtPosition(1, 0) is not None  # two rows of figures
    page.resize(1200, 740)
    assert page.overlay.isVisible()
    assert page.strip._grid.itemAtPosition(1, 0) is None


def test_ready_comparisons_set_both_panes(page: ComparePage) -> None:
    for number, (_, a, b) in enumerate(READY, start=1):
        page.head.ready.activated.emit(number)
        assert [p.setup.wish() for p in page.panes] == [a, b]


def test_nothing_runs_without_a_model(context: AppContext, qtbot: QtBot) -> None:
    page = ComparePage(context)
    qtbot.addWidget(page)
    with qtbot.waitSignal(context.error_raised) as raised:
        page.compare()
    assert "No model" in raised.args[0].sentence


def test_turns() -> None:
    choice = PaneChoice(PLAIN)
    plan = ComparisonPlan(
        "", "", False, 0, SamplingSettings(), StopConditions(), (choice, choice), RoundOrder.B_FIRST, rounds=2
    )
    assert plan.turns() == [(1, 0), (0, 0), (1, 1), (0, 1)]
    assert isinstance(plan.group, str)


def test_panes_and_the_generate_page_start_from_one_draft_length(page: ComparePage, ready: AppContext) -> None:
    assert ready.model is not None
    assert ready.lookahead is not None
    controls = DecodingControls(ready.theme)
    for count in (2, 8, 3):
        deep = replace(ready.lookahead, embeddings=torch.zeros(count, ready.model.hidden_size))
        ready.set_lookahead(deep)
        controls.set_lookahead_count(count)
        lengths = {p.setup.wish().settings.k for p in page.panes} | {controls.settings().k}
        assert lengths == {min(count, 6)}
    page.panes[1].setup.k.setValue(2)  # chosen by hand, so it stays
    ready.set_lookahead(replace(ready.lookahead, embeddings=torch.zeros(8, ready.model.hidden_size)))
    assert [p.setup.wish().settings.k for p in page.panes] == [6, 2]


def test_one_measurement_from_reading_files_to_the_last_run(page: ComparePage, ready: AppContext, qtbot: QtBot) -> None:
    seen: list[tuple[str, bool]] = []
    page.measurement.state_changed.connect(lambda: seen.append((page.measurement.state.value, page.runner.running)))
    compare(page, qtbot, PaneWish(PLAIN), PaneWish(TWO_CALL))
    assert seen == [("running", False), ("idle", False)]
    assert page.head.bar.run.isVisible()
    assert not page.head.bar.stop.isVisible()


def test_five_alternating_rounds_are_usual_and_rates_carry_their_n(
    page: ComparePage, ready: AppContext, qtbot: QtBot
) -> None:
    fresh = CompareHead(ready, page.measurement)
    assert (fresh.rounds.value(), fresh.order.currentText()) == (5, RoundOrder.ALTERNATE.value)
    page.head.rounds.setValue(5)
    ready.setup.set(replace(ready.setup.value, stop=StopConditions(6, ignore_eos=True)))
    compare(page, qtbot, PaneWish(PLAIN), PaneWish(TWO_CALL))
    strip, (a, b) = page.strip, page.runner.results
    assert len(a) == len(b) == 5
    assert "in 5 rounds" in strip.speed_up.remark.text()
    proposed = sum(r.summary.proposed for r in b)
    assert strip.acceptance.remark.text() == f"of 0 │ {proposed} drafts"
    assert strip.per_call.remark.text() == f"of 30 │ {sum(r.summary.calls for r in b)} calls"
    assert all(r.others is None or r.others >= 0 for r in (*a, *b))
