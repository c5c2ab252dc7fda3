"""The command line, `python -m pass_core`."""
