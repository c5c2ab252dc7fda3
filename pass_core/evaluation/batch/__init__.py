"""Batches: one prompt under a grid of settings and seeds, with means and intervals."""
