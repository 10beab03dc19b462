"""Long runs: ranks, signals, folder locks, checkpoints and resuming. Nothing here is specific to MPO."""
