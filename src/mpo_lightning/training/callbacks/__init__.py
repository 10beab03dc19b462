"""Lightning callbacks of a training run, one a file."""
