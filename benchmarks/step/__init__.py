"""The speed and memory of one training step, against the two-sequence oracle and against TRL."""
