"""The window: it consumes events of `pass_core` and holds no algorithm."""
