"""The operations of a step besides forward passes: one interface, in torch and in the compiled library."""
