"""The parts of the Train page: what to train, carrying it out, and showing how it goes."""
