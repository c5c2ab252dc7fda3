"""Forward passes of a GPU, captured once as CUDA graphs and replayed."""
