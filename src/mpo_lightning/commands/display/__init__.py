"""Output of the verbs: progress bars, tables, a page of pairs."""
