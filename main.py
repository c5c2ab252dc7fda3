"""Start the window: python main.py [--help]."""

import sys

from app.application import main

if __name__ == "__main__":
    sys.exit(main())
