"""Values of answers: numbers, units, parts such as dates and ranges, words; each read once and compared by its type."""
