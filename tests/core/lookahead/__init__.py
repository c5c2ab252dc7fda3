"""Tests of pass_core.lookahead."""
