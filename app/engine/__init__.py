"""What runs away from the GUI thread: the decoding worker, its session, and background jobs."""
