"""The compiled CPU runtime: its C++ source, how it is built on this machine, and the Python side of it."""
