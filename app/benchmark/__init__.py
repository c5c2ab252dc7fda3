"""The Benchmark page: speed and HumanEval."""
