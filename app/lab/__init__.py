"""Widgets of the Benchmark and Losslessness pages."""
