"""The middle of the Generate page while there is no text."""

from __future__ import annotations


def empty_state(*, loaded: bool, loading: bool) -> tuple[str, str]:
    """Title and text."""
    if loaded:
        return (
            "Press Run, and watch the model write",
            "Every token is coloured by how it came to be: sampled by the model itself, drafted ahead and "
            "accepted, corrected, or won as a bonus. Whatever is drafted, the text is exactly the model's own.",
        )
    if loading:
        return (
            "The model is loading",
            "The first start downloads and converts it once; later starts take a few seconds. "
            "You may press Run already: it begins as soon as the model is there.",
        )
    return "No model is loaded", "Pick one on the left, or drop a model folder or a GGUF file anywhere."
