"""One forward pass and its memory, on each kind of device."""
