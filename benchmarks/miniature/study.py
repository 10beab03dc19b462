"""The study's sizes, methods, settings, and the commands of each stage. All training and measuring is done by `mpo`.

world/              images, questions, problems
base-B/             a base model: its examples, shards, training, scores
cell-B-S/           pair set S of base B: build/, tune/METHOD-LR-BETA/, scores
cell-B-S-CONDITION/ pairs chosen otherwise from the same responses, or trained on otherwise: shards/, tune/
"""

import os
from dataclasses import dataclass
from pathlib import Path

from miniature.cells import Base, Cell
from miniature.commands import Command

CONFIGS = Path(os.path.relpath(Path(__file__).resolve().parents[2] / "configs"))
SHIFT_BETA = 0.1
"""With which `mpo test` computes the rewards that shifts of log-probs are read from."""
BASE_THREADS = 2
"""Of a base's training, whatever else runs: sums over other numbers of threads are rounded otherwise."""
METHODS = {
    "SFT": ("sft.yaml",),
    "DPO": ("dpo.yaml", "--model.weights.generation=0"),
    "DPO+SFT": ("dpo.yaml",),
    "BCO+SFT": ("bco.yaml",),
    "MPO": (),
}
"""Overlays and options on top of configs/recipe/mpo.yaml."""


@dataclass(frozen=True)
class Size:
    """How large a study is.

    Attributes:
        base_examples: solutions that a base learns from.
        base_epochs: how often it sees them.
        base_lr: its learning rate.
        base_batch: solutions a step.
        heart: problems that all of a reduced study is about, learned by heart, so that its numbers mean nothing; None
            draws fresh ones for everything.
        questions: fresh questions with answers, for pairs.
        samples: responses to each.
        pairs_per_question: most pairs of one question.
        batch: pairs a step.
        rates: learning rates of the sweep.
        betas: of the sweep; SFT has none.
        beyond: how often a sweep continues beyond its edges.
        test: problems that methods are compared on.
        validation: problems that settings are chosen on.
        drawn: sampled responses to each test problem for pass@k.
    """

    base_examples: int = 18_000
    base_epochs: int = 2
    base_lr: float = 2e-3
    base_batch: int = 64
    heart: int | None = None
    questions: int = 1_500
    samples: int = 8
    pairs_per_question: int = 2
    batch: int = 32
    rates: tuple[float, ...] = (3e-6, 1e-5, 3e-5, 1e-4)
    betas: tuple[float, ...] = (0.1, 1.0, 8.0)
    beyond: int = 2
    test: int = 2_000
    validation: int = 500
    drawn: int = 4


REDUCED = Size(
    base_examples=240,
    base_epochs=8,
    base_lr=4e-3,
    base_batch=12,
    heart=8,
    questions=8,
    samples=16,
    pairs_per_question=4,
    batch=8,
    rates=(1e-4,),
    betas=(0.1,),
    test=8,
    validation=8,
    drawn=2,
)


@dataclass(frozen=True)
class Setting:
    """A method with a learning rate and a beta."""

    method: str
    rate: float
    beta: float

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.method}-{self.rate:g}" + ("" if self.method == "SFT" else f"-{self.beta:g}")


def sweep(size: Size, part: bool = False) -> list[Setting]:
    """Settings to choose from: every method with every learning rate, and every beta where there is one.

    Args:
        size: of the study.
        part: without the smallest learning rate and the largest beta.
    """
    rates, betas = (size.rates[1:] or size.rates, size.betas[:-1] or size.betas) if part else (size.rates, size.betas)
    return [
        Setting(method, rate, beta)
        for method in METHODS
        for rate in rates
        for beta in (betas[:1] if method == "SFT" else betas)
    ]


def base_shards_command(folder: Path, base: Base) -> Command:
    """Shards of a base's examples."""
    home = folder / base.name
    words = ["data", "shard", "--meta", home / "examples/meta.json", "--output", home / "shards"]
    return Command(f"{base.name}-shards", words, f"{base.name}/shards/manifest.json")


def base_command(folder: Path, base: Base, size: Size) -> Command:
    """The training of a base model."""
    home = folder / base.name
    words = [
        "fit",
        *_configs("base.yaml", "recipe/mpo.yaml", "recipe/miniature_base.yaml"),
        "--model.policy",
        home / "untrained",
        "--data.train",
        home / "shards/train",
        "--trainer.default_root_dir",
        home / "fit",
        "--trainer.max_epochs",
        size.base_epochs * (2 if base.even else 1),
        "--model.optimizer.init_args.lr",
        size.base_lr,
        "--data.global_batch_size",
        size.base_batch,
        "--data.micro_batch_size",
        size.base_batch,
        "--seed_everything",
        base.number,
        "--ckpt_path",
        "auto",
    ]
    return Command(f"{base.name}-fit", words, f"{base.name}/fit/version_*/export/model.safetensors", BASE_THREADS)


def versions(run: Path, name: str) -> list[Path]:
    """The files or folders of a name that the starts of a run left, oldest first."""
    return sorted(run.glob(f"version_*/{name}"), key=lambda path: int(path.parent.name.removeprefix("version_")))


def exported(run: Path) -> Path:
    """The policy that a finished `mpo fit` left."""
    return versions(run, "export")[-1]


def build_command(folder: Path, cell: Cell, size: Size) -> Command:
    """The pair set, by the pipeline."""
    words = [
        *_build(
            folder,
            cell.base,
            folder / f"world/questions-{cell.pair_set}/meta.json",
            folder / cell.responses / "build",
            cell.base.seed + cell.pair_set,
        ),
        "--samples",
        size.samples,
        "--pairing.pairs_per_question",
        size.pairs_per_question,
        "--sampling.temperature",
        cell.condition.temperature,
    ]
    return Command(f"{cell.responses}-build", words, f"{cell.responses}/build/manifest.json")


def held_out_command(folder: Path, base: Base, size: Size) -> Command:
    """Right and wrong responses of a base to the test problems, a pair each, whose log-probs are measured before and
    after.
    """
    home = f"{base.name}/test-pairs"
    words = [
        *_build(folder, base, folder / "world/test/problems.jsonl", folder / home, base.seed + 49),
        "--samples",
        size.drawn,
        "--pairing.pairs_per_question",
        1,
    ]
    return Command(f"{base.name}-test-pairs", words, f"{home}/manifest.json")


def _build(folder: Path, base: Base, prompts: Path, output: Path, seed: int) -> list[object]:
    return [
        "prefs",
        "build",
        "--config",
        CONFIGS / "prefs/miniature.yaml",
        "--prompts",
        prompts,
        "--model",
        exported(folder / base.name / "fit"),
        "--output",
        output,
        "--sampling.seed",
        seed,
    ]


def all_pairs_command(folder: Path, cell: Cell) -> Command:
    """All pairs of right and wrong that a cell's responses give, to choose from."""
    home = f"{cell.responses}/all-pairs"
    words = [
        "prefs",
        "pair",
        "--responses",
        folder / cell.responses / "build/responses/verified.jsonl",
        "--output",
        folder / home,
        "--pairing.pairs_per_question",
        1000,
        "--pairing.reuse",
        1000,
        "--workers",
        1,
    ]
    return Command(f"{cell.responses}-all-pairs", words, f"{home}/meta.json")


def pair_folders(folder: Path, cell: Cell) -> list[Path]:
    """The pairs of a cell in MMPR's form."""
    build, pairs = folder / cell.responses / "build", cell.condition.pairs
    if pairs in ("close", "far", "sound", "lucky"):
        return [folder / cell.name]
    return [build / kind for kind in ("correctness", "dropout_ntp") if pairs in ("all", kind)]


def shards_command(folder: Path, cell: Cell) -> Command:
    """Shards of the pairs of a condition."""
    (pairs,) = pair_folders(folder, cell)
    words = ["data", "shard", "--meta", pairs / "meta.json", "--output", folder / cell.name / "shards"]
    return Command(f"{cell.name}-shards", words, f"{cell.name}/shards/manifest.json")


def shards(folder: Path, cell: Cell) -> Path:
    """What a cell trains on."""
    return folder / (f"{cell.responses}/build" if cell.condition.pairs == "all" else cell.name) / "shards/train"


def tune_command(folder: Path, cell: Cell, setting: Setting, size: Size) -> Command:
    """One run over the pairs."""
    run = folder / home_of(cell, setting)
    overlays = [f"recipe/ablation/{word}" for word in METHODS[setting.method] if word.endswith(".yaml")]
    options = [word for word in METHODS[setting.method] if not word.endswith(".yaml")]
    words = [
        "fit",
        *_configs("base.yaml", "recipe/mpo.yaml", *overlays, "recipe/miniature.yaml"),
        *options,
        "--model.policy",
        exported(folder / cell.base.name / "fit"),
        "--data.train",
        shards(folder, cell),
        "--trainer.default_root_dir",
        run,
        "--trainer.max_epochs",
        cell.condition.epochs,
        "--model.optimizer.init_args.lr",
        setting.rate,
        "--model.beta",
        setting.beta,
        "--data.global_batch_size",
        size.batch,
        "--data.micro_batch_size",
        size.batch,
        "--ckpt_path",
        "auto",
    ]
    return Command(
        f"{cell.name}-{setting.name}", words, f"{run.relative_to(folder)}/version_*/export/model.safetensors"
    )


def home_of(cell: Cell, setting: Setting) -> str:
    """The folder of a run below the study's."""
    return f"{cell.name}/tune/{setting.name}"


def shift_command(folder: Path, cell: Cell, setting: Setting, size: Size) -> Command:
    """Log-probs of pairs of the test problems under a trained policy and its base."""
    run = folder / home_of(cell, setting)
    words = [
        "test",
        *_configs("base.yaml", "recipe/mpo.yaml", "recipe/miniature.yaml"),
        "--model.policy",
        exported(run),
        "--model.reference",
        exported(folder / cell.base.name / "fit"),
        "--data.train",
        shards(folder, cell),
        "--data.validation",
        folder / cell.base.name / "test-pairs/shards/train",
        "--data.global_batch_size",
        size.batch,
        "--data.micro_batch_size",
        size.batch,
        "--model.beta",
        SHIFT_BETA,
        "--trainer.default_root_dir",
        run / "shift",
    ]
    return Command(
        f"{cell.name}-{setting.name}-shift", words, f"{run.relative_to(folder)}/shift/version_*/scores-0.jsonl"
    )


def eval_command(folder: Path, home: str, model: Path, kind: str, size: Size) -> Command:
    """Responses and scores: "validation" and "greedy" with reasoning, "sampled" also, "direct" without reasoning.

    Args:
        folder: of the study.
        home: the run's folder below that of the study.
        model: checkpoint folder.
        kind: which of these.
        size: of the study.
    """
    split = "validation" if kind == "validation" else "test"
    words = [
        "eval",
        "run",
        "--model",
        model,
        "--benchmark",
        "questions",
        "--data",
        folder / f"world/{split}",
        "--output",
        folder / home / kind,
        "--max_new_tokens",
        96,
        "--engine.max_tiles",
        1,
        "--engine.batch_size",
        250,
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        1,
        "--engine.num_workers",
        0,
        *([] if kind == "direct" else ["--cot"]),
        *(["--samples", size.drawn] if kind == "sampled" else []),
    ]
    return Command(f"{home.replace('/', '-')}-{kind}", words, f"{home}/{kind}/scores.table.json")


def validation_command(folder: Path, cell: Cell, setting: Setting, size: Size) -> Command:
    """What a setting is chosen by."""
    home = home_of(cell, setting)
    return eval_command(folder, home, exported(folder / home), "validation", size)


def cell_commands(folder: Path, cell: Cell, chosen: dict[str, Setting], size: Size) -> list[Command]:
    """All that is measured of a cell's trained models: of a condition greedy responses alone."""
    homes = {home_of(cell, setting): exported(folder / home_of(cell, setting)) for setting in chosen.values()}
    if cell.name_of_condition:
        return [eval_command(folder, home, model, "greedy", size) for home, model in homes.items()]
    shifts = [shift_command(folder, cell, setting, size) for setting in chosen.values()]
    # The longest first.
    kinds = ("sampled", "greedy", "direct")
    return [
        *shifts,
        *(eval_command(folder, home, model, kind, size) for kind in kinds for home, model in homes.items()),
    ]


def _configs(*names: str) -> list[object]:
    return [word for name in names for word in ("--config", CONFIGS / name)]
