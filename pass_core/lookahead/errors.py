"""What can be wrong with a look-ahead file. Each message names the cause and the way out."""

from __future__ import annotations


class LookaheadError(ValueError):
    """A look-ahead file cannot be used; the message names the cause and the way out."""


class FileNotFound(LookaheadError):
    """There is no such file."""


class NotALookaheadFile(LookaheadError):
    """The file is not of a supported kind, or holds no [L, hidden] tensor."""


class TruncatedFile(LookaheadError):
    """The file is damaged or cut short."""


class UnsupportedVersion(LookaheadError):
    """The file was written by a newer format version."""


class HiddenSizeMismatch(LookaheadError):
    """The embeddings' hidden size is not the model's."""


class LookaheadCountMismatch(LookaheadError):
    """L in the metadata and in the tensors differ, or somebody asks for more steps than the file has."""


class DtypeMismatch(LookaheadError):
    """The tensor is not of a floating dtype."""


class NonFiniteValues(LookaheadError):
    """The tensors hold NaN or infinity."""


class ModelMismatch(LookaheadError):
    """The file was trained for another model."""


class PartMismatch(LookaheadError):
    """An optional part (deep, adapter, sampler) does not fit the model's layers."""


class TooLarge(LookaheadError):
    """The header lists more or larger tensors than a look-ahead file has; nothing was read."""
