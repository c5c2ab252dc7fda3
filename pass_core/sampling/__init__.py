"""From logits to tokens: distributions, the shared noise, and the rules that accept or replace drafts."""
