"""What can be wrong with a stored run. Each message says where and why, and what to do."""

from __future__ import annotations


class RecordError(ValueError):
    """A run file cannot be read; the message says where and why, and what to do."""


class NotARunFile(RecordError):
    """The file is no JSON, or JSON of something else."""


class NewerSchema(RecordError):
    """The file was written by a newer version of the program."""


class BrokenRecord(RecordError):
    """A field is missing, of the wrong type or outside its range; the message names it."""
