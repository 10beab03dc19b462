"""What verbs show: progress bars, tables, a page of pairs."""
