"""Look-ahead embeddings: the file format, its parts, its checks, and the model's own bigrams."""
