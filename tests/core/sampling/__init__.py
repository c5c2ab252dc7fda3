"""Tests of pass_core.sampling."""
