"""`python -m pass_core`: the command line."""

from pass_core.cli.main import main

main()
