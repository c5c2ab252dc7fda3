"""The decoding loop: propose, plan, forward pass, verify, learn."""
