"""Widgets that show one thing each and know nothing of the engine."""
