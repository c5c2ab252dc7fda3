"""Entries of the File menu: models and look-ahead files to open."""

from __future__ import annotations

from PySide6.QtGui import QAction
from PySide6.QtWidgets import QWidget

from app.widgets.actions import make_action
from app.widgets.embedding_card import EmbeddingCard
from app.widgets.model_card import ModelCard


def file_actions(page: QWidget, models: ModelCard, embeddings: EmbeddingCard) -> list[QAction]:
    """Actions of `page` that open the cards' dialogs."""
    return [
        make_action(page, "Open model folder…", models.choose_folder, "Ctrl+O"),
        make_action(page, "Open GGUF file…", models.choose_gguf),
        make_action(page, "Load from Hugging Face…", models.choose_hub_id),
        make_action(page, "Open look-ahead embeddings…", embeddings.choose_file, "Ctrl+E"),
    ]
