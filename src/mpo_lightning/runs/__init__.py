"""What a long run needs of its processes and folder: ranks, signals, the lock, resuming. Nothing here is about MPO."""
