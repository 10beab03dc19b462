"""From MMPR annotations to shards, and from shards to batches. Nothing here knows of models or of Lightning."""
