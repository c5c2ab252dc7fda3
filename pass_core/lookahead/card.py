"""The model card of a look-ahead file for the Hugging Face hub, written from what the file says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pass_core.lookahead.embeddings import LookaheadEmbeddings, TrainingSummary

MARK = "<!-- written by python -m pass_core train --push -->"
TAGS = ["pass-lookahead", "speculative-decoding", "parallel-decoding"]
_PARTS = {
    "embeddings": "input vectors of look-ahead rows (arXiv 2311.13581)",
    "deep": "one vector for each layer and look-ahead step",
    "adapter": "low-rank updates of the linear layers, on look-ahead rows only (arXiv 2507.11851)",
    "sampler": "makes a draft fit the token before it (arXiv 2507.11851)",
    "state": "state head: drafts from the last token's state, without look-ahead rows",
}


def model_card(lookahead: LookaheadEmbeddings, name: str) -> str:
    """Markdown with the hub's YAML header.

    Args:
        name: of the file on the hub, such as "hf:user/name/file.safetensors".
    """
    from huggingface_hub import ModelCardData

    base = lookahead.base_model or "an unknown model"
    header = ModelCardData(
        base_model=base if "/" in base else None, library_name="pass-playground", tags=TAGS, language=None
    )
    lines = [
        "---",
        header.to_yaml(),
        "---",
        MARK,
        "",
        f"# Look-ahead embeddings for {base}",
        "",
        "Parallel Speculative Sampling (PASS) drafts several tokens in one call of the model. This file makes its "
        "guesses better. The model stays as it is, and so does the distribution of its text: every draft is verified.",
        "",
        f"    python -m pass_core generate --embeddings {name}",
        "",
        f"It fits the weights with the fingerprint `{lookahead.base_fingerprint or 'unknown'}` only; the program "
        "checks that before it downloads the file.",
        "",
        "| part | parameters | bytes | what it is |",
        "|---|---|---|---|",
        *(f"| {p.name} | {p.parameters:,} | {p.bytes:,} | {_PARTS.get(p.name, '')} |" for p in lookahead.parts()),
        "",
        f"L = {lookahead.count} look-ahead steps, hidden size {lookahead.hidden_size}.",
        "",
    ]
    if lookahead.training is not None:
        lines += _of_training(lookahead.training)
    return "\n".join(lines)


def _of_training(training: TrainingSummary) -> list[str]:
    lines = ["## What it is worth", ""]
    settings = f"temperature {training.temperature:g}, top-k {training.top_k}"
    if training.acceptance:
        helped = ", with the model's bigrams" if training.bigrams else ""
        lines += [
            f"{training.accepted_per_iteration:.2f} drafts accepted a chain on held-out text ({settings}{helped}), by "
            f"position: {_figures(training.acceptance)}.",
            "",
        ]
    if training.state_acceptance:
        lines += [
            f"State head, match by position on held-out text ({settings}): {_figures(training.state_acceptance)}.",
            "",
        ]
    if len(lines) == 2:
        lines += ["It was not measured.", ""]
    lines += ["## How it was made", ""]
    if training.steps:
        lines += [f"{training.steps:,} steps, {training.tokens:,} look-ahead rows. Text: {training.data}.", ""]
    for command in (training.command, training.state_command):
        if command:
            lines += [f"    {command}", ""]
    return lines


def _figures(values: Sequence[float]) -> str:
    return " ".join(f"{v:.2f}" for v in values)
