"""The verbs that are plain functions. Their help is their docstring; heavy imports are inside."""

from mpo_lightning.commands.run import run

__all__ = ["run"]
