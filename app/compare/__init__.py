"""Two ways of decoding the same prompt, side by side: which is faster, and whether the text is the same."""
