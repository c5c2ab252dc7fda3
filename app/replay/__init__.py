"""Recorded steps shown again, token by token or call by call, against their true time."""
