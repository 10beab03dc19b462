"""`mpo prefs build`: the whole data pipeline."""

import os
from collections import Counter
from pathlib import Path

from mpo_lightning.commands.display.progress import engine_with_bar, progress_bar
from mpo_lightning.commands.prefs import OnBad
from mpo_lightning.inference.options import EngineOptions, TrainerOptions
from mpo_lightning.models.sampling import Sampling
from mpo_lightning.prefs.options import BuildOptions, DropoutOptions, PairingRules, VerifierOptions
from mpo_lightning.prefs.sources import Source
from mpo_lightning.runs.rank import is_first


def build(
    prompts: str,
    output: str,
    model: str,
    samples: int = 32,
    max_new_tokens: int = 4096,
    sources: list[Source] | None = None,
    prompt_files: str | None = None,
    images: str | None = None,
    fingerprints: list[str] | None = None,
    on_bad: OnBad = "strict",
    tokenizer: str | None = None,
    shards: bool = True,
    validation: float = 0.0,
    shard_megabytes: float = 256.0,
    workers: int | None = None,
    sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    pairing: PairingRules = PairingRules(),  # noqa: B008
    verifier: VerifierOptions = VerifierOptions(),  # noqa: B008
    dropout: DropoutOptions = DropoutOptions(),  # noqa: B008
    engine: EngineOptions = EngineOptions(),  # noqa: B008
    trainer: TrainerOptions = TrainerOptions(),  # noqa: B008
) -> None:
    """Builds shards of preference pairs from questions: sample, verify, pair, DropoutNTP, shards, manifest, data card.

    Every stage is complete on disk before the next one; started again after a kill, the build resumes with the stage it
    was in. Exit code 3: some prompts have no response, and the manifest says why. For example:
    mpo prefs build --config prefs/mmpr --prompts prompts/meta.json --model MODEL --output built

    Args:
        prompts: a meta.json of data sets as in MMPR, whose annotations have image, question and answer; or one such
            JSON-lines file.
        output: a new folder, or that of a build that was stopped.
        model: checkpoint folder in either layout, or the model's name on a server.
        samples: number of responses to each question whose answer can be checked.
        max_new_tokens: most tokens of a response.
        sources: rules for data sets by name: match, tiles, correctness, dropout_ntp, kinds (of prompts).
        prompt_files: folder of prompt texts KIND.LANGUAGE.txt, instead of or beside the package's.
        images: folder that image paths of a JSON-lines file are relative to; default the file's own.
        fingerprints: lists of benchmarks' problems (`mpo prefs fingerprint`); questions that are in them are skipped.
        on_bad: strict stops at a question that cannot be used; quarantine skips it.
        tokenizer: folder of the tokenizer by whose tokens responses are cut; default the model's, or with a server the
            packaged one.
        shards: whether to write shards too.
        validation: share of the pairs that is held out in the shards.
        shard_megabytes: size at which a tar is closed.
        workers: number of processes; default one a core.
        sampling: how responses are sampled.
        pairing: how responses are paired.
        verifier: a model that decides what the rules do not.
        dropout: how DropoutNTP writes second halves.
        engine: the engine that writes responses.
        trainer: devices of the embedded engine.
    """
    from mpo_lightning.inference.engine import open_engine
    from mpo_lightning.prefs.build import Build
    from mpo_lightning.prefs.dropout_ntp import token_offsets
    from mpo_lightning.prefs.manifest import cost_lines, in_words
    from mpo_lightning.prefs.prompt_files import read_prompt_files
    from mpo_lightning.prefs.questions import question_sets
    from mpo_lightning.prefs.sources import check_sources

    texts = read_prompt_files(Path(prompt_files) if prompt_files else None)
    rules = sources or [Source()]
    check_sources(rules, texts)
    options = BuildOptions(
        samples=samples,
        sampling=sampling,
        max_new_tokens=max_new_tokens,
        pairing=pairing,
        verifier=verifier,
        dropout=dropout,
        fingerprints=tuple(map(Path, fingerprints or [])),
        strict=on_bad == "strict",
        shards=shards,
        validation=validation,
        shard_megabytes=shard_megabytes,
        workers=workers or os.cpu_count() or 1,
    )
    chosen = open_engine(model, engine, trainer)
    offsets, named = token_offsets(chosen, tokenizer)
    made = Build(
        folder=Path(output),
        sets=question_sets(Path(prompts), Path(images) if images else None),
        sources=rules,
        prompts=texts,
        engine=engine_with_bar(chosen),
        offsets=offsets,
        tokenizer=named,
        options=options,
        progress=progress_bar,
        say=print,
    )
    made.run()
    if is_first():
        manifest = made.manifest()
        print("\n".join(line.removeprefix("- ") for line in cost_lines(manifest["costs"])))
        where = f"{output}/shards" if shards else f"{output}/meta.json"
        print(
            f"{where}: {manifest['pairs']:,} pairs; {output}/manifest.json has the settings and counts, "
            f"{output}/README.md is the data card"
        )
        if (without := manifest["without_response"])["prompts"]:
            print(f"  {without['prompts']:,} prompts could not be answered: {in_words(Counter(without['reasons']))}")
            raise SystemExit(3)
