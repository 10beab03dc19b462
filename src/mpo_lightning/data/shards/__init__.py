"""Data on disk: WebDataset shards, their index, reading them here or from a URL, and cached reference log-probs."""
