"""InternVL2 models: open, freeze, run over pairs, write."""
