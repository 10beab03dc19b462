"""Imports of large packages, without the garbage collector."""

import gc
import importlib
import sys
from types import ModuleType


def load(name: str) -> ModuleType:
    """Imports a module and what it imports.

    torch, Lightning and transformers are hundreds of thousands of objects that live until the process ends. The
    collector would go through them again and again, while they come in, in training and at the end; here it is off
    meanwhile, and then leaves them out.
    """
    if name in sys.modules:
        return sys.modules[name]
    enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
