"""The command `mpo`: routes a verb to Lightning or to a plain function.

Nothing heavy is imported here, so that `mpo --help` answers at once. `fit`, `validate` and `test` are LightningCLI;
every other verb is a function of `commands`, whose arguments and help jsonargparse reads off its signature and
docstring.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mpo_lightning import __version__
from mpo_lightning.commands.imports import load
from mpo_lightning.errors import InputError, LostRank

TRAINER_VERBS = {
    "fit": "train a policy with MPO: --config overlays, on one device or many",
    "validate": "the losses, rewards and accuracy of a checkpoint on the validation shards",
    "test": "the same on the test shards, and each pair's log-probs and rewards as JSON lines",
}
VERBS = {
    "launch": "print the sbatch or torchrun script that starts mpo fit on many machines",
    "predict": "a model's answers to a questions file or a shard set, as JSON lines",
}
GROUPS = {
    "data": {
        "shard": "MMPR annotations -> checked WebDataset shards",
        "check": "read every record of a shard folder and say what is wrong",
        "show": "an HTML page of pairs: pictures, tiles, answers, their difference",
        "index": "index a folder of WebDataset shards made elsewhere",
        "import": "pairs with the columns of TRL, ms-swift or RLAIF-V -> MMPR annotations",
        "reference": "compute reference log-probs once, for training without a reference model",
    },
    "prefs": {
        "build": "from questions to shards of pairs: all of what follows, and a data card",
        "sample": "draw several responses to each question, from a model here or on a server",
        "pair": "verify responses and pair right ones with wrong ones",
        "dropout-ntp": (
            "pairs for questions without a checkable answer: half of a response, the rest written without the picture"
        ),
        "fingerprint": "a benchmark's problems, so that training data can be kept free of them",
    },
    "eval": {
        "run": "ask a model a benchmark's questions and score its responses",
        "score": "score responses that are there, by our rules or the benchmark's own",
        "compare": "runs side by side, with intervals, paired tests and a picture",
    },
    "model": {
        "convert": "a checkpoint from the original OpenGVLab layout to transformers', or back",
        "chat": "one answer to a question about pictures, as it comes",
        "export": "a training checkpoint's policy as a folder that plain transformers loads",
        "merge": "add a LoRA adapter to its model",
        "plan": "memory of a training step on each device",
        "tiny": "write a tiny InternVL2 with random weights, for trying things out",
    },
}


def help_text() -> str:
    """What `mpo --help` prints: every verb in a line."""
    lines = [
        "usage: mpo VERB ... | mpo VERB --help",
        "",
        "Take an InternVL2, train it with Mixed Preference Optimization.",
        "",
    ]
    lines += [
        "train and evaluate (LightningCLI):",
        *(f"  {verb:<14} {text}" for verb, text in TRAINER_VERBS.items()),
        "",
    ]
    lines += ["more:", *(f"  {verb:<14} {text}" for verb, text in VERBS.items()), ""]
    for group in GROUPS:
        lines += [f"{group}:", *group_lines(group), ""]
    return "\n".join([*lines, "options:", "  --help         this text", "  --version      the version", ""])


def group_lines(group: str) -> list[str]:
    """Each verb of a group in a line."""
    return [f"  {f'{group} {verb}':<14} {text}" for verb, text in GROUPS[group].items()]


def main() -> None:
    """Entry point. Bad input ends with one sentence on stderr and exit code 2."""
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A user's own loss may lie in the working folder; last, so that nothing there hides a package.
    sys.path.append(str(Path.cwd()))
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        importlib.import_module("mpo_lightning.runs.agreement").forget_earlier_attempts()
    code: str | int | None = 0
    try:
        # sys.argv is left alone: Lightning's launcher starts other ranks with it.
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
        importlib.import_module("mpo_lightning.runs.agreement").end_process(
            code if isinstance(code, int) else int(code is not None)
        )
    raise SystemExit(code)


def run(arguments: Sequence[str]) -> None:
    """Runs one verb.

    Raises:
        InputError: the verb is not known, or what it was given cannot be used.
    """
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help"):
        print(help_text())
    elif verb == "--version":
        print(f"mpo-lightning {__version__}")
    elif verb in TRAINER_VERBS and len(arguments) == 1:
        raise InputError(
            f"'mpo {verb}' needs a model and shards: mpo {verb} --config configs/base.yaml --config "
            "configs/recipe/mpo.yaml --model.policy MODEL "
            f"--data.train SHARDS/train; 'mpo {verb} --help' explains every option"
        )
    elif verb in TRAINER_VERBS:
        load("mpo_lightning.commands.fit").run()
    elif verb in GROUPS and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        print("\n".join([f"usage: mpo {verb} VERB ... | mpo {verb} VERB --help", "", *group_lines(verb)]))
    elif verb in GROUPS and arguments[1] not in GROUPS[verb]:
        raise InputError(f"unknown verb '{verb} {arguments[1]}'; 'mpo {verb} --help' lists them")
    elif verb in GROUPS:
        load("mpo_lightning.commands").run(f"{verb} {arguments[1]}", arguments[2:])
    elif verb == "launch":
        # Not parsed by jsonargparse: most of its options are those of fit.
        importlib.import_module("mpo_lightning.commands.launch").launch(arguments[1:])
    elif verb in VERBS:
        load("mpo_lightning.commands").run(verb, arguments[1:])
    else:
        raise InputError(f"unknown verb '{verb}'; 'mpo --help' lists them all")
