"""Generated programs in a sandbox, judged from outside.

Three processes take part: `run` (ours) starts `judge`, which holds the tests; the judge starts `inside`, which holds
the program and answers calls of its function. Only plain data (`wire`) passes between judge and program.
"""
