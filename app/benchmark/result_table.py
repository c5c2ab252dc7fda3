"""A table of benchmark results, one row a way of decoding."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

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


class ResultTable(QTableWidget):
    """Shows results as they come; the fastest row is bold."""

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self.setAccessibleName("Benchmark results")
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        for column, (title, tip) in enumerate(COLUMNS):
            item = QTableWidgetItem(title)
            item.setToolTip(tip)
            item.setTextAlignment(
                (Qt.AlignmentFlag.AlignLeft if column == 0 else Qt.AlignmentFlag.AlignRight)
                | Qt.AlignmentFlag.AlignVCenter
            )
            self.setHorizontalHeaderItem(column, item)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setMinimumSectionSize(56)

    def show_results(self, results: Sequence[Result]) -> None:
        """Replace the rows."""
        self.setRowCount(len(results))
        best = min(range(len(results)), key=lambda i: results[i].ms_per_token.median) if results else -1
        for row, result in enumerate(results):
            ms = result.ms_per_token
            texts = (
                result.contestant.label,
                ms.text(1),
                f"{result.tokens_per_second:.1f}",
                f"{result.tokens_per_call:.2f}",
                acceptance_text(result),
                interval_text(result.speedup_vs_autoregressive),
                interval_text(result.speedup_vs_transformers),
                f"{result.same_text} of {result.compared}" if result.compared else "–",
            )
            for column, text in enumerate(texts):
                item = QTableWidgetItem(text)
                if column:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                if row == best:
                    font = item.font()
                    font.setBold(True)
                    item.setFont(font)
                item.setToolTip(f"{count_of(result.runs, 'run')}, {count_of(result.tokens, 'token')}")
                self.setItem(row, column, item)
