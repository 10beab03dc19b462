"""Imports large packages without the garbage collector."""

import gc
import importlib
import sys
from types import ModuleType


def load(name: str) -> ModuleType:
    """Imports a module and its own imports.

    torch, Lightning and transformers are hundreds of thousands of objects that live until the process ends. The
    collector would scan them again and again; here it is off during the import, and then ignores them.
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
