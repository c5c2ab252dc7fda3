"""The compiled library and the table of its signatures: what differs is refused at loading, never a wrong tree."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pass_core.kernels import native_library
from pass_core.kernels.layout import block
from pass_core.kernels.native_library import BLOCKS, SIGNATURES, LibraryMismatch, declared
from pass_core.runtime.native.build import library
from tests.kernels.makers import compiled


def stand_in(**other: Any) -> Any:
    """A library whose blocks are those of the table."""

    def function() -> Any:
        return lambda *_: None

    made = SimpleNamespace(**{name: function() for name in SIGNATURES})
    made.pass_layout = lambda index: BLOCKS[index].described.encode()
    vars(made).update(other)
    return made


def test_a_library_of_the_same_table_is_taken() -> None:
    taken: Any = declared(stand_in())
    assert taken.pass_grow.argtypes == SIGNATURES["pass_grow"][1]


@compiled
def test_the_compiled_library_has_every_signature_and_block() -> None:
    found = library()
    assert found is not None
    assert declared(found).pass_layout(len(BLOCKS)) is None, "a block that the table has not"


def test_a_library_without_a_function_is_refused() -> None:
    older = stand_in()
    del older.pass_layout
    with pytest.raises(LibraryMismatch, match="older"):
        declared(older)


@pytest.mark.parametrize(
    "fields",
    [
        (("position", "int64_t"), ("noise", "uint64_t"), ("temperature", "double"), ("top_k", "int32_t")),
        (("noise", "uint64_t"), ("position", "int64_t"), ("temperature", "float"), ("top_k", "int32_t")),
        (("noise", "uint64_t"), ("position", "int64_t"), ("temperature", "double")),
    ],
    ids=["two fields changed places", "another type", "a field less"],
)
def test_a_block_that_differs_is_refused(fields: tuple[tuple[str, str], ...]) -> None:
    other = block("WalkRequest", fields).described.encode()
    place = BLOCKS.index(native_library.WalkBlock)
    differing = stand_in(pass_layout=lambda i: other if i == place else BLOCKS[i].described.encode())
    with pytest.raises(LibraryMismatch, match="WalkRequest"):
        declared(differing)
