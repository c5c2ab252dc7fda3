"""The preferences of the window: look, computing, notices, folders."""
