"""From a verb's words to its function."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

from jsonargparse import ArgumentParser

from mpo_lightning.commands import data, model, predict, prefs
from mpo_lightning.commands import eval as evaluate
from mpo_lightning.commands.imports import load
from mpo_lightning.commands.parser import RefusesInASentence
from mpo_lightning.errors import InputError

COMMANDS: dict[str, Any] = {
    "predict": predict.predict,
    "data shard": data.shard,
    "data check": data.check,
    "data show": data.show,
    "data index": data.index,
    "data import": data.import_pairs,
    "data reference": data.reference,
    "eval run": evaluate.run,
    "eval score": evaluate.score,
    "eval compare": evaluate.compare,
    "prefs sample": prefs.sample,
    "prefs pair": prefs.pair,
    "prefs dropout-ntp": prefs.dropout_ntp,
    "prefs build": prefs.build,
    "prefs fingerprint": prefs.fingerprint,
    "model convert": model.convert,
    "model chat": model.chat,
    "model export": model.export,
    "model merge": model.merge,
    "model plan": model.plan,
    "model tiny": model.tiny,
}

RUNS_MODELS = ("predict", "data reference", "eval run", "prefs sample", "prefs dropout-ntp", "prefs build")
"""Verbs that run a model over many inputs, by Lightning."""


class CommandParser(RefusesInASentence, ArgumentParser):
    """Of one verb."""


def run(verb: str, arguments: Sequence[str]) -> None:
    """Runs one verb.

    Raises:
        InputError: what it was given cannot be used.
    """
    function = COMMANDS[verb]
    parser = CommandParser(prog=f"mpo {verb}", description=str(function.__doc__).split("\n\n    Args:")[0])
    parser.add_argument("--config", action="config", help="a YAML file with these arguments")
    # `mpo data check FOLDER`, but `mpo data shard --meta META --output DIR`.
    parameters = signature(function).parameters
    several = "runs" in parameters
    parser.add_function_arguments(function, as_positional="folder" in parameters, skip={"runs"} if several else set())
    if several:
        parser.add_argument(
            "runs",
            nargs="+",
            help="folders of `mpo eval run` or files of `mpo eval score`; the others are compared with the first",
        )
    arguments = _named(verb, arguments)
    flags = {f"--{name}" for name, parameter in parameters.items() if parameter.default is False}
    chosen = vars(parser.instantiate_classes(parser.parse_args(_with_values(arguments, flags))))
    chosen.pop("config")
    if verb in RUNS_MODELS:
        load("mpo_lightning.inference.predict")
    try:
        function(**chosen)
    except OSError as error:
        raise InputError(
            f"{error.filename or 'the output'}: cannot read or write there ({error.strerror or error})"
        ) from None


POSITIONAL = {"model export": ("checkpoint", "output")}
"""Options whose values may stand without their names, as in `mpo model export CKPT OUT`."""


def _named(verb: str, arguments: Sequence[str]) -> list[str]:
    """Gives the values at the beginning the names of their options."""
    words = list(arguments)
    named = [f"--{name}={word}" for name, word in zip(POSITIONAL.get(verb, ()), words, strict=False)]
    bare = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    return named[:bare] + words[min(bare, len(named)) :]


def _with_values(arguments: Sequence[str], flags: set[str]) -> list[str]:
    """`--cot` alone means `--cot true`."""
    words = list(arguments)
    for place, word in enumerate(words):
        follows = words[place + 1] if place + 1 < len(words) else "--"
        if word in flags and follows.lower() not in ("true", "false", "yes", "no", "null"):
            words[place] = f"{word}=true"
    return words
