"""The InternVL model family."""
