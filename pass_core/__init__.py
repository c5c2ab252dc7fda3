"""Parallel Speculative Sampling with a frozen language model, as a library without any Qt.

    from pass_core.decoding.loop import decode
    from pass_core.settings import DecodingSettings
    from pass_core.models.loading import load_model
    from pass_core.models.shipped import default_lookahead

    model = load_model()
    for step in decode(model, "Once upon a time", DecodingSettings(k=5), lookahead=default_lookahead(model)):
        print("".join(token.text for token in step.tokens), end="", flush=True)

`models` loads them, `decoding` generates and yields events, `lookahead` reads and writes the trained files, `training`
makes them, `evaluation` measures, `runtime` runs single calls, `cli` is the command line. Source of the method:
PaSS, arXiv 2311.13581.
"""
