"""Widgets that several pages or the window show, one thing each."""
