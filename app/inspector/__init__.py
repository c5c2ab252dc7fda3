"""One step opened up: its tree of drafts, the rule's arithmetic, and the two distributions."""
