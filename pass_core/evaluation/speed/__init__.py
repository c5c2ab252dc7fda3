"""The benchmark: contestants x prompts x temperatures, interleaved and resumable.

`plan` says what is measured, `run` measures and yields events, `report` folds samples into results, `tables` and
`figure` write them, `roofline` says how near a call comes to the machine's limit.
"""
