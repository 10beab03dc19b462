"""Inference: takes prompts and writes responses, with the model in this program or on a server."""
