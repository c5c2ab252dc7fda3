"""The benchmark: contestants x prompts x temperatures, interleaved and resumable.

`plan` says what is measured, `run` measures and yields events, `report` folds samples into results, `tables` and
`figure` write them, `roofline` compares a forward pass with the machine's limit.
"""
