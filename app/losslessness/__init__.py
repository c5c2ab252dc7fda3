"""The Losslessness page."""
