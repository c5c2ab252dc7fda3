"""Tests of app; the folders mirror it."""
