"""Colours, fonts and style sheet: the only place that names a colour."""
