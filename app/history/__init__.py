"""The local history: every run kept in one SQLite file, written away from the GUI thread."""
