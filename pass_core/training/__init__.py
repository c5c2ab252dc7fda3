"""Training look-ahead embeddings and their further parts with the model frozen."""
