"""Rows of a call: parents, depths, and who may attend to whom."""

from __future__ import annotations

import numpy as np

from pass_core.runtime.rows import RowsBuilder, chain_rows


def test_a_chain_attends_to_everything_before() -> None:
    rows = chain_rows(np.array([5, 6, 7]))
    assert rows.count == 3
    assert rows.is_chain
    assert rows.depths.tolist() == [0, 1, 2]
    assert np.array_equal(rows.ancestors(), np.tril(np.ones((3, 3), dtype=bool)))


def test_a_tree_with_look_ahead_chains() -> None:
    builder = RowsBuilder()
    root = builder.add_token(5)
    left, right = builder.add_token(6, root), builder.add_token(7, root)
    chain = builder.add_lookahead_chain(2, right)
    rows = builder.build()
    assert len(builder) == rows.count == 5
    assert rows.tokens.tolist() == [5, 6, 7, -1, -1]
    assert rows.lookahead.tolist() == [-1, -1, -1, 0, 1]
    assert rows.parents.tolist() == [-1, 0, 0, 2, 3]
    assert rows.depths.tolist() == [0, 1, 1, 2, 3]
    assert not rows.is_chain
    seen = [set(np.flatnonzero(line)) for line in rows.ancestors()]
    assert seen == [{root}, {root, left}, {root, right}, {root, right, chain[0]}, {root, right, *chain}]


def test_two_roots_do_not_see_each_other() -> None:
    builder = RowsBuilder()
    builder.add_token(1)
    builder.add_token(2)
    assert np.array_equal(builder.build().ancestors(), np.eye(2, dtype=bool))


def test_a_call_without_rows() -> None:
    rows = chain_rows(np.array([], dtype=np.int64))
    assert rows.count == 0
    assert rows.is_chain
