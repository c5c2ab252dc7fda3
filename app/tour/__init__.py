"""The first five minutes: a tour of the window, and how PASS works, drawn from the user's own run."""
