"""The window: it consumes events of `pass_core` and holds no algorithm."""

from app.start.singletons import protect_singletons

protect_singletons()
