"""Mixed Preference Optimization of InternVL2 vision-language models on PyTorch Lightning."""

__version__ = "0.1.0"
