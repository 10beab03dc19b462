"""The InternVL family of models."""
