"""The command `mpo`: routes a verb of `commands.verbs` to its function.

Nothing heavy is imported here, so that `mpo --help` answers at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mpo_lightning import __version__
from mpo_lightning.commands.verbs import GROUPS, VERBS, help_lines, load, verbs_of
from mpo_lightning.errors import InputError, LostRank

HELP = ("-h", "--help")


def help_text() -> str:
    """Returns the text of `mpo --help`: one line for each verb."""
    alone = {name: verb for name, verb in VERBS.items() if name.split()[0] not in GROUPS}
    lines = [
        "usage: mpo VERB ... | mpo VERB --help",
        "",
        "Train a vision-language model with Mixed Preference Optimization.",
        "",
    ]
    lines += help_lines(alone)
    for group in GROUPS:
        lines += ["", *help_lines(verbs_of(group))]
    return "\n".join([*lines, "", "options:", "  --help             this text", "  --version          the version", ""])


def main() -> None:
    """Runs the command `mpo`. Bad input ends with one sentence on stderr and exit code 2."""
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A user's own loss may be in the working folder, which comes last so that it hides no package.
    sys.path.append(str(Path.cwd()))
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        importlib.import_module("mpo_lightning.runs.agreement").forget_earlier_attempts()
    code: str | int | None = 0
    try:
        run(sys.argv[1:])
    except InputError as error:
        print(f"mpo: {error}", file=sys.stderr)
        code = 2
    except LostRank as lost:
        if str(lost):
            print(f"mpo: {lost}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("mpo: stopped", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except SystemExit as stopped:
        code = stopped.code
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        end_process = importlib.import_module("mpo_lightning.runs.agreement").end_process
        end_process(code if isinstance(code, int) else int(code is not None))
    raise SystemExit(code)


def run(words: Sequence[str]) -> None:
    """Runs one verb.

    Args:
        words: words of the command line after `mpo`.

    Raises:
        InputError: the verb is unknown, or its input cannot be used.
    """
    first, *rest = words or HELP[-1:]
    name = f"{first} {rest[0]}" if rest else first
    if first in HELP:
        print(help_text())
    elif first == "--version":
        print(f"mpo-lightning {__version__}")
    elif name in VERBS and name != first:
        _call(name, rest[1:])
    elif first in VERBS:
        _call(first, rest)
    elif first in GROUPS and (not rest or rest[0] in HELP):
        print("\n".join([f"usage: mpo {first} VERB ... | mpo {first} VERB --help", "", *help_lines(verbs_of(first))]))
    elif first in GROUPS:
        raise InputError(f"unknown verb '{name}'; 'mpo {first} --help' lists them")
    else:
        raise InputError(f"unknown verb '{first}'; 'mpo --help' lists them all")


def _call(name: str, words: Sequence[str]) -> None:
    verb = VERBS[name]
    if not verb.words:
        load("mpo_lightning.commands.run").run(name, words)
        return
    if verb.loads:
        load(verb.loads)
    verb.function()([name, *words])
