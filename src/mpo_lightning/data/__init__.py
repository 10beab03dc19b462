"""From MMPR annotations to shards, and from shards to batches. Independent of models and of Lightning."""
