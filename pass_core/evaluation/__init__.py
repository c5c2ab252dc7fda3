"""Measurements and proofs: speed, losslessness, HumanEval."""
