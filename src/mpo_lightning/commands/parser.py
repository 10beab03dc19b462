"""Argument parsers that find configs by name and report an error in one sentence."""

from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser

from mpo_lightning.commands.configs import find_config
from mpo_lightning.errors import InputError


class NamedConfig(ActionConfigFile):
    """The action of `--config`, which takes a path or the name of a packaged config."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        super().__call__(parser, cfg, find_config(str(values)), option_string)


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
        verb = self.prog.replace(" [options]", "")  # type: ignore[attr-defined]
        if verb == "mpo":
            verb = "mpo fit"  # the parser above those of fit, validate and test
        raise InputError(f"{' '.join(message.split())}; '{verb} --help' explains every option") from None


class CommandParser(SentenceParser, ArgumentParser):
    """The parser of a verb that is a plain function."""
