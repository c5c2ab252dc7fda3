"""Decoders of others that PASS is measured against."""
