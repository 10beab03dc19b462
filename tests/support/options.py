"""Options of a verb by their names on the command line, for calling its function."""

from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import Any


def nested(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a verb's function: `engine.dtype` becomes a field of its default for `engine`."""
    given = {name: value for name, value in options.items() if "." not in name}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in options.items():
        group, dot, field = name.partition(".")
        if dot:
            groups.setdefault(group, {})[field] = value
    defaults = signature(function).parameters
    return given | {group: replace(defaults[group].default, **fields) for group, fields in groups.items()}


def words(options: dict[str, Any]) -> list[str]:
    """The same as words of the command line."""
    return [f"--{name}={value}" for name, value in options.items()]
