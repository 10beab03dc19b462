"""From a verb's words to its function."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

from jsonargparse import ArgumentParser

from mpo_lightning.commands import data, model
from mpo_lightning.errors import InputError

COMMANDS: dict[str, dict[str, Any]] = {
    "data": {"shard": data.shard, "check": data.check, "show": data.show, "index": data.index, "reference": data.reference},
    "model": {"convert": model.convert, "tiny": model.tiny},
}


def run(group: str, arguments: Sequence[str]) -> None:
    """Runs one verb of a group; bad arguments end with jsonargparse's message and exit code 2."""
    name, function = arguments[0], COMMANDS[group][arguments[0]]
    parser = ArgumentParser(prog=f"mpo {group} {name}", description=str(function.__doc__).split("\n\n    Args:")[0])
    parser.add_argument("--config", action="config", help="a YAML file with these arguments")
    # `mpo data check FOLDER`, but `mpo data shard --meta META --output DIR`.
    parser.add_function_arguments(function, as_positional="folder" in signature(function).parameters)
    chosen = parser.parse_args(list(arguments[1:])).as_dict()
    chosen.pop("config")
    try:
        function(**chosen)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot read or write there ({error.strerror})") from None
