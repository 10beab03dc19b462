"""`mpo prefs ...`: building preference data."""

import os
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from mpo_lightning.commands.display.progress import engine_with_bar, progress_bar
from mpo_lightning.errors import InputError
from mpo_lightning.inference.options import EngineOptions, TrainerOptions
from mpo_lightning.models.sampling import Sampling
from mpo_lightning.prefs.options import DropoutOptions, PairingRules, VerifierOptions
from mpo_lightning.prefs.sources import Source
from mpo_lightning.runs.rank import is_first, wait_for

OnBad = Literal["strict", "quarantine"]


def sample(
    prompts: str,
    output: str,
    model: str,
    samples: int = 32,
    max_new_tokens: int = 4096,
    images: str | None = None,
    sources: list[Source] | None = None,
    prompt_files: str | None = None,
    on_bad: OnBad = "strict",
    sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    engine: EngineOptions = EngineOptions(),  # noqa: B008
    trainer: TrainerOptions = TrainerOptions(),  # noqa: B008
) -> None:
    """Samples several responses to each question, one JSON line a response. The defaults are the paper's.

    Started again after a kill it resumes; the embedded engine writes the same bytes on any number of devices.
    OUTPUT.run.json records how the responses were made. For example:
    mpo prefs sample --prompts prompts/meta.json --model MODEL --output responses.jsonl

    Args:
        prompts: a meta.json of data sets as in MMPR, whose annotations have image, question and answer; or one such
            JSON-lines file.
        output: the file to write.
        model: checkpoint folder in either layout, or the model's name on a server.
        samples: number of responses to each question.
        max_new_tokens: most tokens of a response.
        images: folder that image paths of a JSON-lines file are relative to; default the file's own.
        sources: rules for data sets by name: match, tiles, correctness, dropout_ntp, kinds (of prompts). See
            configs/prefs/mmpr.yaml.
        prompt_files: folder of prompt texts KIND.LANGUAGE.txt, instead of or beside the package's.
        on_bad: strict stops at a question that cannot be used; quarantine skips it and lists it in
            OUTPUT.rejected.jsonl (exit code 3).
        sampling: how responses are sampled.
        engine: the engine that writes responses.
        trainer: devices of the embedded engine.
    """
    from mpo_lightning.inference.answer_file import tidy
    from mpo_lightning.inference.engine import open_engine
    from mpo_lightning.prefs.prompt_files import read_prompt_files
    from mpo_lightning.prefs.questions import prepare, question_sets, write_questions
    from mpo_lightning.prefs.sample import draw
    from mpo_lightning.prefs.sources import check_sources

    target = Path(output)
    if samples < 1 or max_new_tokens < 1:
        raise InputError("--samples and --max_new_tokens must be at least 1")
    if target.exists():
        if is_first() and not tidy(target):
            raise InputError(f"{output} exists already; choose another output, or delete it")
        print(f"{output}: is complete; leftovers of a killed run are removed")
        return
    chosen = open_engine(model, engine, trainer)
    texts = read_prompt_files(Path(prompt_files) if prompt_files else None)
    rules = sources or [Source()]
    check_sources(rules, texts)
    prepared, rejected = (target.with_name(f"{target.name}.{kind}.jsonl") for kind in ("questions", "rejected"))
    if is_first():
        sets = question_sets(Path(prompts), Path(images) if images else None)
        target.parent.mkdir(parents=True, exist_ok=True)
        with progress_bar("questions", sum(entry.annotation.stat().st_size for entry in sets), "bytes") as advance:
            rows = prepare(sets, rules, texts, sampling.seed, max_tiles=chosen.max_tiles, advance=advance)
            counts = write_questions(rows, {"verified": prepared, "open": prepared}, rejected, on_bad == "strict")
        _print_questions(counts)
    wait_for(prepared)
    count, refused = draw(
        prepared, target, engine_with_bar(chosen), samples, sampling=sampling, max_new_tokens=max_new_tokens
    )
    if is_first():
        skipped = rejected.stat().st_size > 0
        if not skipped:
            rejected.unlink()
        print(
            f"{output}: {count:,} responses" + (f"; {refused:,} could not be answered, see `error`" if refused else "")
        )
        if refused or skipped:
            raise SystemExit(3)


def pair(
    responses: str,
    output: str,
    workers: int | None = None,
    pairing: PairingRules = PairingRules(),  # noqa: B008 (frozen)
    verifier: VerifierOptions = VerifierOptions(),  # noqa: B008
) -> None:
    """Verifies responses, and pairs right ones with wrong ones and with ones that do not answer in the requested form.

    OUTPUT is in MMPR's own form (meta.json and annotations/), for `mpo data shard`. OUTPUT/counts.json counts the
    responses by outcome. If rows have `known_verdict` (true or false), the precision of verdicts is reported.

    Args:
        responses: the file that `mpo prefs sample` wrote.
        output: a new folder.
        workers: number of processes; default one a core.
        pairing: how responses are paired.
        verifier: a model that decides what the rules do not.
    """
    from dataclasses import asdict

    from mpo_lightning.files.digests import file_digest
    from mpo_lightning.files.settings import take_output_folder
    from mpo_lightning.files.whole import write_json
    from mpo_lightning.prefs.pair import Counts, make_pairs
    from mpo_lightning.prefs.verdicts.verifier import verifier_replies, verifier_settings

    target, source = Path(output), Path(responses)
    if (target / "counts.json").exists():
        raise InputError(f"{output}: holds pairs already; choose a new folder")
    if not source.is_file():
        raise InputError(f"{responses}: there is no such file; 'mpo prefs sample' writes one")
    settings = {"responses": file_digest(source), "options": asdict(pairing)} | verifier_settings(verifier)
    take_output_folder(target, "pair.json", settings, "pairs")
    processes = workers or os.cpu_count() or 1
    replies = verifier_replies(
        source, target / "verifier.jsonl", pairing, verifier, workers=processes, progress=progress_bar
    )
    with progress_bar("pairs", source.stat().st_size, "bytes") as advance:
        counts = make_pairs(source, target, pairing, processes, advance=advance, verifier=replies)
    write_json(target / "counts.json", {name: found.as_dict() for name, found in counts.items()})
    whole = Counts()
    for found in counts.values():
        whole.add(found)
    _print_pairs(whole.as_dict())
    print(
        f"{output}: {whole.numbers['pairs']:,} pairs; next: mpo data shard --meta {target / 'meta.json'} --output "
        "SHARDS"
    )


def dropout_ntp(
    pairs: str,
    output: str,
    model: str,
    tokenizer: str | None = None,
    dropout: DropoutOptions = DropoutOptions(),  # noqa: B008 (frozen)
    sampling: Sampling = Sampling(),  # noqa: B008
    engine: EngineOptions = EngineOptions(),  # noqa: B008
    trainer: TrainerOptions = TrainerOptions(),  # noqa: B008
) -> None:
    """Cuts good responses and lets the model write the rest without the image: the rejected side of pairs for questions
    that no rule can check.

    OUTPUT is in MMPR's own form (meta.json and annotations/). Started again after a kill it resumes.

    Args:
        pairs: a meta.json in MMPR's form, whose chosen sides are cut; one for each question and image.
        output: a new folder.
        model: checkpoint folder in either layout, or the model's name on a server.
        tokenizer: folder of the tokenizer by whose tokens responses are cut; default the model's, or with a server the
            packaged one.
        dropout: how second halves are written.
        sampling: how responses are sampled.
        engine: the engine that writes responses.
        trainer: devices of the embedded engine.
    """
    import json
    from dataclasses import asdict

    from mpo_lightning.data.annotations.mmpr import read_meta
    from mpo_lightning.files.digests import file_digest
    from mpo_lightning.files.settings import take_output_folder
    from mpo_lightning.files.whole import whole_file, write_json
    from mpo_lightning.inference.answer_file import tidy
    from mpo_lightning.inference.engine import open_engine
    from mpo_lightning.prefs.dropout_ntp import begun_rows, chosen_rows, pair_rows, token_offsets
    from mpo_lightning.prefs.filters import FAILED
    from mpo_lightning.prefs.manifest import in_words
    from mpo_lightning.prefs.sample import draw

    target = Path(output)
    chosen = open_engine(model, engine, trainer)
    if dropout.ratio > 0:
        chosen.check_begun(dropout.with_image)
    if (target / "counts.json").exists() and is_first():
        raise InputError(f"{output}: holds pairs already; choose a new folder")
    begun, answers = target / "begun.jsonl", target / "responses.jsonl"
    if is_first():
        counts: dict[str, Counter[str]] = {}
        offsets, named = token_offsets(chosen, tokenizer)
        settings = {
            "pairs": {entry.name: file_digest(entry.annotation) for entry in read_meta(Path(pairs))},
            "options": asdict(dropout),
            "sampling": asdict(sampling),
            "engine": chosen.description(),
            "tokenizer": named,
        }
        take_output_folder(target, "dropout_ntp.json", settings, "pairs")
        tidy(answers)
        with whole_file(begun) as file:
            for row in begun_rows(chosen_rows(Path(pairs)), dropout, offsets, counts):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if not begun.stat().st_size:
            raise InputError(f"{pairs}: no chosen response can be cut ({in_words(sum(counts.values(), Counter()))})")
    wait_for(begun)
    if not answers.exists():
        draw(begun, answers, engine_with_bar(chosen), 1, sampling=sampling, max_new_tokens=dropout.max_new_tokens)
    if is_first():
        made = pair_rows(answers, target, dropout, chosen.exact_seams)
        whole = {name: counts.get(name, Counter()) + made.get(name, Counter()) for name in {**counts, **made}}
        write_json(target / "counts.json", whole)
        found = sum(whole.values(), Counter())
        print(f"{output}: {found['pairs']:,} pairs; not used: {in_words(found, ('pairs', 'tokens', 'chosen'))}")
        if any(name.startswith(FAILED) for name in found):
            raise SystemExit(3)


def fingerprint(
    output: str,
    benchmark: str | None = None,
    data: str | None = None,
    questions: str | None = None,
    name: str | None = None,
    images: str | None = None,
) -> None:
    """Writes the list by which a benchmark's questions are found in training data (`mpo prefs build --fingerprints`).

    For example: mpo prefs fingerprint --benchmark mathvista --data MATHVISTA --output mathvista.fingerprints.jsonl

    Args:
        output: the file to write.
        benchmark: name of a benchmark, or the class path of your own; `mpo eval run --help` lists the names.
        data: folder of the benchmark's official files.
        questions: a file with a JSON object a line (question, image) of any other benchmark; instead of --benchmark.
        name: name of that benchmark; default the file's name.
        images: folder that image paths are relative to; default --data, or the folder of the questions.
    """
    from mpo_lightning.evals.files import read_rows
    from mpo_lightning.evals.registry import find_benchmark
    from mpo_lightning.prefs.overlap import problems_of, write_fingerprints

    if (benchmark is None) == (questions is None) or (benchmark is not None and data is None):
        raise InputError("give either --benchmark NAME --data FOLDER, or --questions FILE")
    place = Path(str(questions or data))
    root = Path(images) if images else place if place.is_dir() else place.parent
    if benchmark is not None:
        chosen = find_benchmark(benchmark)
        rows, title, identity = chosen.load(place), chosen.title, chosen.id_field
    else:
        rows, title, identity = read_rows(place), name or place.stem, "id"
    with progress_bar("problems", len(rows)) as advance:
        count, pictures = write_fingerprints(problems_of(rows, identity, root), title, Path(output), advance)
    print(f"{output}: {count:,} problems, {pictures:,} images")


def _print_questions(counts: dict[str, Counter[str]]) -> None:
    from mpo_lightning.prefs.manifest import in_words

    for source, found in counts.items():
        used = found["verified"] + found["open"]
        print(f"  {source}: {used:,} questions; skipped: {in_words(found, ('verified', 'open'))}")


def _print_pairs(numbers: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from mpo_lightning.prefs.pair import UNUSABLE

    table = Table(title="outcomes of the responses", title_justify="left")
    table.add_column("what")
    table.add_column("count", justify="right")
    for name, count in numbers.items():
        if name != "precision":
            table.add_row(name.replace("_", " "), f"{count:,}")
    Console(width=None if Console().is_terminal else 100).print(table)
    if numbers.get(UNUSABLE):
        print(f"{numbers[UNUSABLE]:,} {UNUSABLE}, set aside in set_aside.jsonl with the reasons")
    for outcome, share in numbers.get("precision", {}).items():
        print(f"precision of '{outcome}' against known verdicts: {share:.1%}")
    if pairs := numbers.get("pairs"):
        print(
            f"tokens a pair: chosen {numbers.get('chosen tokens', 0) / pairs:.1f}, rejected "
            f"{numbers.get('rejected tokens', 0) / pairs:.1f}; rejected side longer in "
            f"{numbers.get('rejected longer', 0) / pairs:.0%}"
        )
