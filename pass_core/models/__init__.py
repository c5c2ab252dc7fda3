"""Finding, fetching, checking and loading language models."""
