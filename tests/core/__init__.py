"""Tests of pass_core; the folders mirror it."""
