"""The verbs, a function each, and the table of them."""
