"""The pages of the window, one folder or file each; `register_pages` puts them into the rail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.generate.page import GeneratePage
    from app.state.context import AppContext
    from app.widgets.page import Page
    from app.window import MainWindow


def register_pages(window: MainWindow, generate: GeneratePage, context: AppContext) -> None:
    """Add every page but Generate (which the window owns), in the order of the rail."""
    from app.chat.page import ChatPage
    from app.compare.page import ComparePage
    from app.export.preset_menu import PresetMenu
    from app.export.presets import PresetFolder
    from app.generate.text_menu import TextMenu
    from app.history.page import HistoryPage
    from app.history.service import HistoryService, kept_path
    from app.inspector.page import InspectPage
    from app.preferences.entries import add_preferences_entry
    from app.tour.entries import add_help_entries
    from app.training.page import TrainPage
    from app.widgets.lazy_page import LazyPage
    from app.widgets.long_work_notice import LongWorkNotice

    def benchmark() -> Page:
        from app.benchmark.page import BenchmarkPage

        return BenchmarkPage(context)

    def models() -> Page:
        from app.models.page import ModelsPage

        return ModelsPage(context, window.loader)

    def losslessness() -> Page:
        from app.losslessness.page import LosslessnessPage

        return LosslessnessPage(context)

    history = HistoryService(context, kept_path(context.preferences), window)
    history.noticed.connect(context.notify)
    window.closed.connect(history.close)
    inspect = InspectPage(context, history)
    chat = ChatPage(context)
    compare = ComparePage(context)
    past = HistoryPage(context, history)
    train = TrainPage(context)
    train.compare_requested.connect(compare.compare_lookahead)
    chat.inspect_requested.connect(inspect.open_run)
    compare.inspect_requested.connect(inspect.open_run)
    past.open_requested.connect(inspect.open_record)
    window.add_page("chat", "Chat", "ph.chats", chat)
    window.add_page("compare", "Compare", "ph.columns", compare)
    window.add_page("inspect", "Inspect", "ph.magnifying-glass", inspect)
    window.add_page("history", "History", "ph.clock-counter-clockwise", past)
    window.add_page("train", "Train", "ph.graduation-cap", train)
    window.add_page("benchmark", "Benchmark", "ph.chart-line-up", LazyPage(benchmark))
    window.add_page("losslessness", "Lossless", "ph.shield-check", LazyPage(losslessness))
    window.add_page("models", "Models", "ph.hard-drives", LazyPage(models))
    window.file_menu.insertMenu(window.file_menu.actions()[-1], PresetMenu(context, PresetFolder(), window))
    TextMenu(generate, history, context)
    generate.run_started.connect(inspect.follow)
    generate.inspect_requested.connect(inspect.open_newest)
    add_help_entries(window, context)
    add_preferences_entry(window, history, context)
    LongWorkNotice(window, context)
