"""A table of a batch, one row a setting."""

from __future__ import annotations

from collections.abc import Sequence

from app.benchmark.figure_table import FigureTable
from app.widgets.text_format import count_of
from pass_core.evaluation.batch.report import CellResult
from pass_core.evaluation.statistics import Interval
from pass_core.strategy_names import strategy_text

MEAN = "Mean over seeds with its 95 % interval (from five runs on), and the number of runs."
COLUMNS = (
    ("Setting", ""),
    ("Temperature", ""),
    ("Top-k", ""),
    ("Tokens/s", MEAN),
    ("Per call", f"Tokens for one forward pass. {MEAN}"),
    ("Accepted", f"Accepted of proposed drafts. {MEAN}"),
    ("First token", f"The prompt's processing. {MEAN}"),
    ("New tokens", MEAN),
    ("Texts", "How many different texts the seeds gave."),
    ("Same as plain", "Runs whose text is exactly plain decoding's of the same seed (coupled rule: all of them)."),
)


class BatchTable(FigureTable):
    """Shows cells as they come; the fastest is bold."""

    def __init__(self) -> None:
        super().__init__("Results of the batch", COLUMNS)

    def show_results(self, results: Sequence[CellResult]) -> None:
        """Replace the rows."""
        speeds = [r.tokens_per_second.median if r.tokens_per_second else 0.0 for r in results]
        best = max(range(len(speeds)), key=speeds.__getitem__) if any(speeds) else -1
        self.show_rows([(_texts(r), count_of(r.runs, "run")) for r in results], best)


def _texts(r: CellResult) -> tuple[str, ...]:
    sampling = r.settings.sampling
    return (
        strategy_text(r.settings.strategy, r.settings.k),
        f"{sampling.temperature:g}",
        str(sampling.top_k or "off"),
        _figure(r.tokens_per_second, 1),
        _figure(r.tokens_per_call, 2),
        _figure(r.acceptance, 0, scale=100, unit=" %"),
        _figure(r.first_token_ms, 0, unit=" ms"),
        _figure(r.new_tokens, 0),
        str(r.texts),
        f"{r.same_text} of {r.compared}" if r.compared else "–",
    )


def _figure(interval: Interval | None, digits: int, *, scale: float = 1.0, unit: str = "") -> str:
    return "–" if interval is None else interval.text(digits, scale=scale, unit=unit)
