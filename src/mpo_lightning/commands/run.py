"""Runs a verb's function with the arguments of the command line."""

import re
from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from typing import Any

from mpo_lightning.commands.parser import CommandParser
from mpo_lightning.commands.verbs import VERBS, load
from mpo_lightning.errors import InputError


def run(name: str, words: Sequence[str]) -> None:
    """Runs a verb whose function takes the parsed arguments.

    Args:
        name: name of the verb, such as "data shard".
        words: words after the verb on the command line.

    Raises:
        InputError: the words cannot be used.
    """
    verb = VERBS[name]
    function = verb.function()
    parser = CommandParser(prog=f"mpo {name}", description=_description(function), allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file with these arguments, or the name of a config")
    required = [one for one in signature(function).parameters.values() if one.default is Parameter.empty]
    # jsonargparse does not let a required list take several words.
    lists: set[str | int] = {one.name for one in required if verb.positional and one.annotation == list[str]}
    parser.add_function_arguments(function, as_group=False, as_positional=verb.positional, skip=lists)
    for several in sorted(map(str, lists)):
        parser.add_argument(several, nargs="+", type=str)
    parser.let_switches_stand_alone()
    chosen = vars(parser.instantiate_classes(parser.parse_args(list(words))))
    chosen.pop("config")
    if verb.loads:
        load(verb.loads)
    try:
        function(**chosen)
    except OSError as error:
        raise InputError(
            f"{error.filename or 'the output'}: cannot read or write there ({error.strerror or error})"
        ) from None


def _description(function: Callable[..., Any]) -> str:
    """Returns a function's docstring up to its first section."""
    return re.split(r"\n\n    (?:Args|Raises|Returns):", str(function.__doc__))[0]
