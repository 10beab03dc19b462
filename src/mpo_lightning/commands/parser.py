"""Argument parsers that find configs by name and report an error in one sentence."""

import re
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser

from mpo_lightning.commands.configs import find_config
from mpo_lightning.errors import InputError


class NamedConfig(ActionConfigFile):
    """The action of `--config`, which takes a path or the name of a packaged config."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        super().__call__(parser, cfg, find_config(str(values)), option_string)


REWORDED = (
    (r"the following arguments are required: (.*)", r"missing: \1"),
    (r'Parser key "(.*?)": Expected a <class .*>\. Got value: None', r"--\1 is missing"),
    (r"""Parser key "(.*?)": Expected a <class '(\w+)'>\. Got value: (.*)""", r"--\1: \3 is not a \2"),
    (r'Parser key "(.*?)": Expected a typing\.Literal\[(.*?)\]\. Got value: (.*)', r"--\1: \3 is not one of \2"),
    (
        r'Parser key "(.*?)": .*Expected a dot import path string: (\S+) .*',
        r"--\1: there is no class \2; name one of this package, or the class path of your own",
    ),
)
"""Messages of jsonargparse about values, which no type tells apart, and the same in the words of the command line."""


def in_words(message: str) -> str:
    """Returns a message of jsonargparse with the option as a user types it."""
    for pattern, words in REWORDED:
        if found := re.fullmatch(pattern, message):
            return found.expand(words)
    return message


class SentenceParser:
    """A mixin for jsonargparse parsers: errors become an InputError of one sentence instead of a page of options."""

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Adds an argument; a config option takes names of packaged configs too."""
        if options.get("action") in ("config", ActionConfigFile):
            options["action"] = NamedConfig
        return super().add_argument(*names, **options)  # type: ignore[misc]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises InputError, or jsonargparse's own error in a parser of a part of the options, so that others try."""
        if not self.exit_on_error:  # type: ignore[attr-defined]
            super().error(message, ex)  # type: ignore[misc]
        message = in_words(" ".join(message.split()))
        verb = self.prog.replace(" [options]", "")  # type: ignore[attr-defined]
        if verb == "mpo":
            verb = "mpo fit"  # the parser above those of fit, validate and test
        raise InputError(f"{message}; '{verb} --help' explains every option") from None


class CommandParser(SentenceParser, ArgumentParser):
    """The parser of a verb that is a plain function."""
