"""InternVL2 models: loading, freezing, the forward pass over pairs, generation and saving."""
