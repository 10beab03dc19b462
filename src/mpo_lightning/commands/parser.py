"""Argument parsers that find configs by name and report an error in one sentence."""

import re
from difflib import get_close_matches
from typing import Any, NoReturn

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, get_loader, set_loader

from mpo_lightning.commands.configs import find_config
from mpo_lightning.errors import InputError

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
load_yaml = get_loader("yaml")


def load_unrepeated(text: str) -> Any:
    """Loads YAML as jsonargparse does, but refuses a repeated key, of which YAML would keep the last value in silence.

    Raises:
        InputError: a key appears twice.
    """
    try:
        nodes = [yaml.compose(text, Loader=Loader)] if ":" in text else []
    except yaml.YAMLError:
        nodes = []  # loading tells more
    visited: set[int] = set()
    while nodes:
        node = nodes.pop()
        if id(node) in visited:  # an alias
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[tuple[str, str]] = set()
            for key, value in node.value:
                nodes.append(value)
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                if (key.tag, key.value) in seen:
                    raise InputError(
                        f"the key '{key.value!s:.80}' appears twice in one mapping (line {key.start_mark.line + 1}); "
                        "only the last one would count"
                    )
                seen.add((key.tag, key.value))
    return load_yaml(text)


set_loader("yaml", load_unrepeated, exceptions=(yaml.YAMLError,))


class NamedConfig(ActionConfigFile):
    """The action of `--config`, which takes a path or the name of a packaged config."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        path = find_config(str(values))
        try:
            super().__call__(parser, cfg, path, option_string)
        except InputError as error:
            raise InputError(f"--config {values}: {error}") from None


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


NO_TYPE = "Does not validate against any of the Union subtypes"
"""How jsonargparse begins a message about a value that none of several types takes; the reason is an inner cause."""


def cause_of(error: BaseException) -> BaseException:
    """Returns the innermost cause of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


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
        message = in_words(" ".join(message.split())) + self._near(message)
        if NO_TYPE in message and ex is not None and (option := re.match(r'Parser key "(.*?)"', message)):
            message = f"--{option[1]}: {in_words(' '.join(str(cause_of(ex)).split())):.300}"
        verb = self.prog.replace(" [options]", "")  # type: ignore[attr-defined]
        if verb == "mpo":
            verb = "mpo fit"  # the parser above those of fit, validate and test
        raise InputError(f"{message}; '{verb} --help' explains every option") from None

    def _near(self, message: str) -> str:
        """Returns a hint for an unknown option: options with the same last part, or else of similar names."""
        found = re.match(r"unrecognized arguments: --([\w.]+)", message)
        if found is None:
            return ""
        names = [name for action in self._actions for name in action.option_strings]  # type: ignore[attr-defined]
        known = [name[2:] for name in names if name.startswith("--") and not name.endswith(".help")]
        same = [name for name in known if name.rpartition(".")[2] == found[1].rpartition(".")[2]]
        near = same[:3] or get_close_matches(found[1], known, n=3, cutoff=0.7)
        return f" (did you mean {' or '.join(f'--{name}' for name in near)}?)" if near else ""


class CommandParser(SentenceParser, ArgumentParser):
    """The parser of a verb that is a plain function."""

    def let_switches_stand_alone(self) -> None:
        """Makes a switch such as `--cot` alone mean `--cot true`."""
        for action in self._actions:
            if getattr(action, "_typehint", None) is bool and action.option_strings:
                action.nargs, action.const = "?", True
