"""Run files: finished generations as JSON."""
