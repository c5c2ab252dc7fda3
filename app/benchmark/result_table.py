"""A table of benchmark results, one row a way of decoding."""

from __future__ import annotations

from collections.abc import Sequence

from app.benchmark.figure_table import FigureTable
from app.widgets.text_format import count_of
from pass_core.evaluation.speed.report import Result
from pass_core.evaluation.speed.tables import acceptance_text, interval_text

COLUMNS = (
    ("Decoding", ""),
    ("ms/token", "Median over prompts, with its 95 % interval. Prompt processing is not in it."),
    ("tokens/s", ""),
    ("per call", "Tokens for one pass through the model's weights."),
    ("accepted by position", "Share of examined drafts that were kept: first look-ahead position, second, …"),
    ("× plain", "Speed-up against our own plain decoding, paired by prompt, with its 95 % interval."),
    ("× transformers", "Speed-up against transformers' generate, paired by prompt, with its 95 % interval."),
    ("same text", "Runs whose text is exactly plain decoding's for the same seed (coupled rule: all of them)."),
)


class ResultTable(FigureTable):
    """Shows results as they come; the fastest row is bold."""

    def __init__(self) -> None:
        super().__init__("Benchmark results", COLUMNS)

    def show_results(self, results: Sequence[Result]) -> None:
        """Replace the rows."""
        best = min(range(len(results)), key=lambda i: results[i].ms_per_token.median) if results else -1
        self.show_rows([_row(result) for result in results], best)


def _row(result: Result) -> tuple[tuple[str, ...], str]:
    texts = (
        result.contestant.label,
        result.ms_per_token.text(1),
        f"{result.tokens_per_second:.1f}",
        f"{result.tokens_per_call:.2f}",
        acceptance_text(result),
        interval_text(result.speedup_vs_autoregressive),
        interval_text(result.speedup_vs_transformers),
        f"{result.same_text} of {result.compared}" if result.compared else "–",
    )
    return texts, f"{count_of(result.runs, 'run')}, {count_of(result.tokens, 'token')}"
