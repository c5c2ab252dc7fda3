"""An error in words that people can use."""

from __future__ import annotations


def plain_sentence(error: BaseException, what: str) -> str:
    """The library's own sentence when it wrote one for people, else `what` with the cause."""
    from pass_core.files import WriteError
    from pass_core.lookahead.errors import LookaheadError
    from pass_core.models.errors import ModelError

    if isinstance(error, (ModelError, LookaheadError, WriteError)):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{what}: the memory is full. Close other programs, or choose a smaller model."
    cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{what}: {cause.rstrip('.')}. Copy the details to report it."
