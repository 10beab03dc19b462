"""The verbs of `mpo`: a function for each, and their table."""
