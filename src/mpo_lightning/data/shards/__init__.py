"""What lies on disk: WebDataset shards, their index, reading them here or from a URL, and reference log-probs beside
them.
"""
