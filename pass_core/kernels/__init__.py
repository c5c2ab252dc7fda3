"""What a step computes besides the model's calls: one interface, once in torch and once in the compiled library."""
