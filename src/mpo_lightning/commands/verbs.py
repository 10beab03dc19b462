"""The table of verbs, for `mpo --help`, the parsers and the README.

Nothing heavy is imported: a verb's function is imported when it is called.
"""

import atexit
import gc
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Verb:
    """A verb of the command.

    Attributes:
        target: function of the verb, as "module:function" below `mpo_lightning.commands`.
        text: description in one line.
        positional: whether required arguments have no names, as in `mpo data check FOLDER`.
        words: whether the function parses the words of the command line itself.
        loads: a large module that is imported first, without the garbage collector.
    """

    target: str
    text: str
    positional: bool = False
    words: bool = False
    loads: str | None = None

    def function(self) -> Callable[..., Any]:
        """Imports the verb's function."""
        module, _, name = self.target.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(f"mpo_lightning.commands.{module}"), name)
        return function


LIGHTNING, PREDICT = "mpo_lightning.commands.fit", "mpo_lightning.inference.predict"

VERBS = {
    "quickstart": Verb("quickstart:quickstart", "train a tiny model on the sample pairs, on a CPU, from any folder"),
    "fit": Verb("fit:run", "train a policy: `--config` overlays, on one device or many", words=True, loads=LIGHTNING),
    "validate": Verb("fit:run", "the same numbers on held-out pairs", words=True, loads=LIGHTNING),
    "test": Verb("fit:run", "also each pair's log-probs and rewards, as JSON lines", words=True, loads=LIGHTNING),
    "launch": Verb("launch:launch", "the sbatch or torchrun script that starts `mpo fit` on many machines", words=True),
    "configs": Verb("configs:show", "list the configs that `--config NAME` finds"),
    "configs copy": Verb("configs:copy", "copy them to a folder, to change them", positional=True),
    "predict": Verb("predict:predict", "a model's responses to a questions file or a shard set", loads=PREDICT),
    "prefs build": Verb("build:build", "from questions to shards of preference pairs, with a data card", loads=PREDICT),
    "prefs sample": Verb("prefs:sample", "several responses to each question, from a model or a server", loads=PREDICT),
    "prefs pair": Verb("prefs:pair", "verify responses, and pair right ones with wrong ones"),
    "prefs dropout-ntp": Verb(
        "prefs:dropout_ntp", "half of a good response, the rest written without the image", loads=PREDICT
    ),
    "prefs check-server": Verb("server:check_server", "whether a server's prompts are those that training makes"),
    "prefs fingerprint": Verb("prefs:fingerprint", "a benchmark's problems, to keep training data free of them"),
    "eval run": Verb("eval:run", "a model's responses to a benchmark, and their scores", loads=PREDICT),
    "eval score": Verb("eval:score", "score responses, by our checker or by the benchmark's own rule"),
    "eval compare": Verb("eval:compare", "runs side by side: intervals, paired tests, a figure", positional=True),
    "data shard": Verb("data:shard", "MMPR annotations -> checked WebDataset shards with an index"),
    "data check": Verb("data:check", "read every record and say what is wrong", positional=True),
    "data show": Verb("data:show", "a page of pairs: images, tiles, responses and their difference", positional=True),
    "data index": Verb("data:index", "index WebDataset shards that were made elsewhere", positional=True),
    "data import": Verb("data:import_pairs", "pairs of TRL, ms-swift or RLAIF-V -> MMPR annotations"),
    "data reference": Verb("data:reference", "reference log-probs, to train without a reference model", loads=PREDICT),
    "model show": Verb("model:show", "what a checkpoint is recognised as, and its prompt", positional=True),
    "model convert": Verb("model:convert", "a checkpoint in another layout: OpenGVLab's, -hf, or this package's"),
    "model chat": Verb("model:chat", "one response about images, as it is written", positional=True),
    "model plan": Verb("model:plan", "memory of a training step on each device"),
    "model export": Verb("model:export", "a training checkpoint's policy as a folder", positional=True),
    "model merge": Verb("model:merge", "add a LoRA adapter to its model"),
    "model tiny": Verb("model:tiny", "write a tiny model with random weights"),
}

GROUPS = list(dict.fromkeys(name.split()[0] for name in VERBS if " " in name))


def verbs_of(group: str) -> dict[str, Verb]:
    """Returns the verbs that begin with a word, such as "data"."""
    return {name: verb for name, verb in VERBS.items() if name.split()[0] == group}


def help_lines(verbs: dict[str, Verb]) -> list[str]:
    """Returns one line of help for each verb."""
    return [f"  {name:<18} {verb.text.replace('`', '')}" for name, verb in verbs.items()]


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
        atexit.register(gc.unfreeze)  # else some libraries report their objects as leaks at the end
        if enabled:
            gc.enable()
