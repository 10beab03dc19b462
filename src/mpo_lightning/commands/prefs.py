"""`mpo prefs ...`"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mpo_lightning.commands.progress import progress_bar
from mpo_lightning.errors import InputError
from mpo_lightning.prefs.sources import Source
from mpo_lightning.runs.rank import is_first, wait_for

if TYPE_CHECKING:
    from mpo_lightning.inference.engine import Engine
    from mpo_lightning.models.sampling import Sampling
    from mpo_lightning.prefs.dropout_ntp import Offsets

OnBad = Literal["strict", "quarantine"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Server = Literal["vllm", "sglang", "lmdeploy", "transformers", "openai"]


def open_engine(
    model: str,
    engine: Literal["embedded", "openai"] = "embedded",
    url: str | None = None,
    server: Server = "vllm",
    at_once: int = 32,
    timeout: float = 600.0,
    template: str = "auto",
    max_tiles: int = 12,
    max_length: int = 8192,
    batch_size: int = 32,
    dtype: Dtype = "auto",
    accelerator: str = "auto",
    devices: str = "auto",
    num_nodes: int = 1,
    num_workers: int = 2,
) -> "Engine":
    """Who answers.

    Args:
        model: checkpoint folder, in either layout; or the model's name on the server.
        engine: embedded runs the model here, on any number of devices; openai asks a server that speaks OpenAI's
            protocol.
        url: of the server, such as http://localhost:8000/v1; "openai" is OpenAI's own, with the key in OPENAI_API_KEY.
        server: its kind, for what OpenAI's protocol has no field for: top_k, tiles, answers to be gone on with.
        at_once: requests to the server under way.
        timeout: seconds until a request counts as failed and is sent again.
        template: chat template; auto takes the one that the checkpoint names. A server's has to be named for
            DropoutNTP.
        max_tiles: most tiles of a question's pictures, thumbnails not counted, where its source does not say.
        max_length: a prompt of so many tokens is refused.
        batch_size: responses that a device writes at once; part of what decides drawn responses.
        dtype: of weights and arithmetic; auto takes bfloat16 on a GPU and float32 on a CPU.
        accelerator: as in Lightning's Trainer.
        devices: as in Lightning's Trainer.
        num_nodes: machines; start the same command on each with torchrun or srun.
        num_workers: loader processes a device.
    """
    counts = {
        "at_once": at_once,
        "max_tiles": max_tiles,
        "max_length": max_length,
        "batch_size": batch_size,
        "num_nodes": num_nodes,
    }
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}")
    if num_workers < 0 or timeout <= 0:
        raise InputError(f"--num_workers must be at least 0 and --timeout above 0, got {num_workers} and {timeout}")
    if engine == "embedded":
        from mpo_lightning.inference.embedded import EmbeddedEngine

        if url is not None:
            raise InputError("--url is for --engine openai")
        trainer = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes}
        return EmbeddedEngine(model, max_tiles, max_length, template, batch_size, num_workers, dtype, trainer)
    from mpo_lightning.inference.server import ServerEngine

    if url is None:
        raise InputError("--engine openai needs --url with the server's address, such as http://localhost:8000/v1")
    named = None if template == "auto" else template
    return ServerEngine(None if url == "openai" else url, model, server, named, at_once, timeout, max_tiles)


def sample(
    prompts: str,
    output: str,
    samples: int = 32,
    temperature: float = 1.0,
    top_k: int = 50,
    top_p: float = 1.0,
    seed: int = 0,
    max_new_tokens: int = 4096,
    images: str | None = None,
    sources: list[Source] | None = None,
    prompt_files: str | None = None,
    on_bad: OnBad = "strict",
    **engine: Any,
) -> None:
    """Draws several responses to each question, one JSON line a response. Defaults are the paper's.

    Started again after a kill it goes on where it was, and ends with the same bytes (embedded engine), on any number of
    devices. OUTPUT.run.json says how the responses were made. For example:
    mpo prefs sample --prompts prompts/meta.json --model MODEL --output responses.jsonl

    Args:
        prompts: a meta.json of data sets as in MMPR, whose annotations have image, question and answer; or one such
            JSON-lines file.
        output: the file to write.
        samples: responses to each question.
        temperature: of drawn responses.
        top_k: likeliest tokens that may be drawn; 0 is all.
        top_p: the likeliest tokens that together have this probability may be drawn.
        seed: of all draws.
        max_new_tokens: most tokens of a response.
        images: the folder that picture paths of a JSON-lines file are relative to; default its own.
        sources: rules for data sets by name: match, tiles, correctness, dropout_ntp, kinds (of prompts). See
            configs/prefs/mmpr.yaml.
        prompt_files: a folder of prompt texts KIND.LANGUAGE.txt, in place of or beside the package's.
        on_bad: strict stops at a question that cannot be used; quarantine leaves it out and lists it in
            OUTPUT.rejected.jsonl (exit code 3).
    """
    from mpo_lightning.inference.answer_file import tidy
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
        print(f"{output}: is whole; what a run that was killed had left beside it is removed")
        return
    chosen = open_engine(**engine)
    texts = read_prompt_files(Path(prompt_files) if prompt_files else None)
    rules = sources or [Source()]
    check_sources(rules, texts)
    prepared, rejected = (target.with_name(f"{target.name}.{kind}.jsonl") for kind in ("questions", "rejected"))
    drawn = sampling_of(temperature, top_k, top_p, seed)
    if is_first():
        sets = question_sets(Path(prompts), Path(images) if images else None)
        target.parent.mkdir(parents=True, exist_ok=True)
        with progress_bar("questions", sum(entry.annotation.stat().st_size for entry in sets), "bytes") as advance:
            rows = prepare(sets, rules, texts, seed, max_tiles=chosen.max_tiles, advance=advance)
            counts = write_questions(rows, {"verified": prepared, "open": prepared}, rejected, on_bad == "strict")
        _tell_questions(counts)
    wait_for(prepared)
    count, refused = draw(prepared, target, _with_progress(chosen), samples, drawn, max_new_tokens, is_first())
    if is_first():
        left_out = rejected.stat().st_size > 0
        if not left_out:
            rejected.unlink()
        print(
            f"{output}: {count:,} responses" + (f", {refused:,} of them a reason why there is none" if refused else "")
        )
        if refused or left_out:
            raise SystemExit(3)


def pair(
    responses: str,
    output: str,
    pairs_per_question: int = 15,
    reuse: int = 4,
    difference: float = 0.02,
    balance_length: bool = False,
    confidence: float = 0.92,
    filters: list[str] | None = None,
    workers: int | None = None,
) -> None:
    """Verifies responses and pairs right ones with wrong ones and with ones that give no answer in the form that was
    asked for.

    OUTPUT is in MMPR's own form (meta.json and annotations/), for `mpo data shard`; OUTPUT/counts.json says what became
    of every response. Where rows carry `known_verdict` (true or false), the precision of verdicts is reported.

    Args:
        responses: the file of `mpo prefs sample`.
        output: a new folder.
        pairs_per_question: most pairs of a question.
        reuse: pairs in which one response may stand.
        difference: least share of words in which the two sides differ.
        balance_length: choose pairs so that chosen and rejected sides have about the same number of tokens in sum.
        confidence: verdicts below this are used on neither side.
        filters: names of the quality filters in use; default all of them.
        workers: processes; default one a core.
    """
    from dataclasses import asdict

    from mpo_lightning.files.digests import file_digest
    from mpo_lightning.files.settings import take_output_folder
    from mpo_lightning.files.whole import write_json
    from mpo_lightning.prefs.pair import Counts, make_pairs

    target = Path(output)
    if (target / "counts.json").exists():
        raise InputError(f"{output}: holds pairs already; choose a new folder")
    options = pair_options(pairs_per_question, reuse, difference, balance_length, confidence, filters)
    if not Path(responses).is_file():
        raise InputError(f"{responses}: there is no such file; 'mpo prefs sample' writes one")
    take_output_folder(
        target, "pair.json", {"responses": file_digest(Path(responses)), "options": asdict(options)}, "pairs"
    )
    with progress_bar("pairs", Path(responses).stat().st_size, "bytes") as advance:
        counts = make_pairs(Path(responses), target, options, workers or os.cpu_count() or 1, advance)
    write_json(target / "counts.json", {source: found.as_dict() for source, found in counts.items()})
    whole = Counts()
    for found in counts.values():
        whole.add(found)
    _tell_pairs(whole.as_dict())
    print(
        f"{output}: {whole.numbers['pairs']:,} pairs; next: mpo data shard --meta {target / 'meta.json'} --output "
        "SHARDS"
    )


def dropout_ntp(
    pairs: str,
    output: str,
    ratio: float = 0.5,
    with_image: bool = False,
    temperature: float = 1.0,
    top_k: int = 50,
    top_p: float = 1.0,
    seed: int = 0,
    max_new_tokens: int = 2048,
    filters: list[str] | None = None,
    tokenizer: str | None = None,
    **engine: Any,
) -> None:
    """Cuts good responses and lets the model write the rest without the picture: the rejected side of pairs for
    questions that no rule can check.

    OUTPUT is in MMPR's own form (meta.json and annotations/). Started again after a kill it goes on where it was.

    Args:
        pairs: a meta.json in MMPR's form, whose chosen sides are cut; one for each question and picture.
        output: a new folder.
        ratio: the share of a response's tokens that is kept; the paper's 0.5, its ablation 0.25 and 0.75; 0 writes all
            of it anew.
        with_image: show the picture all the same, as a control.
        temperature: of drawn responses.
        top_k: likeliest tokens that may be drawn; 0 is all.
        top_p: the likeliest tokens that together have this probability may be drawn.
        seed: of all draws.
        max_new_tokens: most tokens of a second half.
        filters: names of the quality filters in use; default all of them.
        tokenizer: folder of the tokenizer by whose tokens responses are cut; default the model's, or with a server the
            packaged one.
    """
    import json
    from dataclasses import asdict

    from mpo_lightning.data.annotations.mmpr import read_meta
    from mpo_lightning.files.digests import file_digest
    from mpo_lightning.files.settings import take_output_folder
    from mpo_lightning.files.whole import whole_file, write_json
    from mpo_lightning.inference.answer_file import tidy
    from mpo_lightning.prefs.build import told
    from mpo_lightning.prefs.dropout_ntp import DropoutOptions, begun_rows, pair_rows
    from mpo_lightning.prefs.filters import FAILED, FILTERS, check_filters
    from mpo_lightning.prefs.sample import draw

    target = Path(output)
    names = tuple(FILTERS) if filters is None else tuple(filters)
    check_filters(names)
    options = DropoutOptions(ratio, with_image, names)
    drawn = sampling_of(temperature, top_k, top_p, seed)
    chosen = open_engine(**engine)
    if ratio > 0:
        chosen.check_begun(with_image)
    if (target / "counts.json").exists() and is_first():
        raise InputError(f"{output}: holds pairs already; choose a new folder")
    begun, answers = target / "begun.jsonl", target / "responses.jsonl"
    if is_first():
        counts: dict[str, Counter[str]] = {}
        offsets, named = offsets_of(chosen, tokenizer)
        settings = {
            "pairs": {entry.name: file_digest(entry.annotation) for entry in read_meta(Path(pairs))},
            "options": asdict(options),
            "sampling": asdict(drawn),
            "max_new_tokens": max_new_tokens,
            "engine": chosen.description(),
            "tokenizer": named,
        }
        take_output_folder(target, "dropout_ntp.json", settings, "pairs")
        tidy(answers)
        with whole_file(begun) as file:
            for row in begun_rows(chosen_rows(Path(pairs)), options, offsets, counts):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if not begun.stat().st_size:
            raise InputError(f"{pairs}: no chosen response can be cut ({told(sum(counts.values(), Counter()))})")
    wait_for(begun)
    if not answers.exists():
        draw(begun, answers, _with_progress(chosen), 1, drawn, max_new_tokens, is_first())
    if is_first():
        made = pair_rows(answers, target, options, chosen.exact_seams)
        whole = {source: counts.get(source, Counter()) + made.get(source, Counter()) for source in {**counts, **made}}
        write_json(target / "counts.json", whole)
        found = sum(whole.values(), Counter())
        print(f"{output}: {found['pairs']:,} pairs; not used: {told(found, ('pairs', 'tokens', 'chosen'))}")
        if any(name.startswith(FAILED) for name in found):
            raise SystemExit(3)


def build(
    prompts: str,
    output: str,
    samples: int = 32,
    temperature: float = 1.0,
    top_k: int = 50,
    top_p: float = 1.0,
    seed: int = 0,
    max_new_tokens: int = 4096,
    sources: list[Source] | None = None,
    prompt_files: str | None = None,
    images: str | None = None,
    fingerprints: list[str] | None = None,
    on_bad: OnBad = "strict",
    pairs_per_question: int = 15,
    reuse: int = 4,
    difference: float = 0.02,
    balance_length: bool = False,
    confidence: float = 0.92,
    filters: list[str] | None = None,
    dropout_ratio: float = 0.5,
    dropout_with_image: bool = False,
    dropout_tokens: int = 2048,
    tokenizer: str | None = None,
    shards: bool = True,
    validation: float = 0.0,
    shard_megabytes: float = 256.0,
    workers: int | None = None,
    **engine: Any,
) -> None:
    """From questions to shards of preference pairs: sample, verify, pair, DropoutNTP, shards, manifest and data card.

    Every stage is whole on disk before the next; started again after a kill, it goes on with the stage it was in. Exit
    code 3: some prompts have no response, and the manifest says why. For example:
    mpo prefs build --config configs/prefs/mmpr.yaml --prompts prompts/meta.json --model MODEL --output built

    Args:
        prompts: a meta.json of data sets as in MMPR, whose annotations have image, question and answer; or one such
            JSON-lines file.
        output: a new folder, or that of a build that was stopped.
        samples: responses to each question whose answer can be checked.
        temperature: of drawn responses.
        top_k: likeliest tokens that may be drawn; 0 is all.
        top_p: the likeliest tokens that together have this probability may be drawn.
        seed: of all draws.
        max_new_tokens: most tokens of a response.
        sources: rules for data sets by name: match, tiles, correctness, dropout_ntp, kinds (of prompts).
        prompt_files: a folder of prompt texts KIND.LANGUAGE.txt, in place of or beside the package's.
        images: the folder that picture paths of a JSON-lines file are relative to; default its own.
        fingerprints: lists of benchmarks' problems (`mpo prefs fingerprint`); questions that are in them are left out.
        on_bad: strict stops at a question that cannot be used; quarantine leaves it out.
        pairs_per_question: most pairs of a question.
        reuse: pairs in which one response may stand.
        difference: least share of words in which the two sides differ.
        balance_length: choose pairs so that chosen and rejected sides have about the same number of tokens in sum.
        confidence: verdicts below this are used on neither side.
        filters: names of the quality filters in use; default all of them.
        dropout_ratio: the share of a good response's tokens that DropoutNTP keeps.
        dropout_with_image: show DropoutNTP the picture all the same, as a control.
        dropout_tokens: most tokens of a second half.
        tokenizer: folder of the tokenizer by whose tokens responses are cut; default the model's, or with a server the
            packaged one.
        shards: whether to write shards too.
        validation: share of pairs to hold out in them.
        shard_megabytes: a tar is closed before it grows larger.
        workers: processes; default one a core.
    """
    from mpo_lightning.prefs.build import Build, BuildOptions, told
    from mpo_lightning.prefs.dropout_ntp import DropoutOptions
    from mpo_lightning.prefs.manifest import cost_lines
    from mpo_lightning.prefs.prompt_files import read_prompt_files
    from mpo_lightning.prefs.questions import question_sets
    from mpo_lightning.prefs.sources import check_sources

    if min(samples, max_new_tokens, dropout_tokens) < 1 or not 0 <= validation < 1 or shard_megabytes <= 0:
        raise InputError(
            "--samples, --max_new_tokens and --dropout_tokens must be at least 1, --validation from 0 to below 1, "
            "--shard_megabytes above 0"
        )
    texts = read_prompt_files(Path(prompt_files) if prompt_files else None)
    rules = sources or [Source()]
    check_sources(rules, texts)
    pairing = pair_options(pairs_per_question, reuse, difference, balance_length, confidence, filters)
    options = BuildOptions(
        samples=samples,
        sampling=sampling_of(temperature, top_k, top_p, seed),
        max_new_tokens=max_new_tokens,
        dropout_tokens=dropout_tokens,
        pairing=pairing,
        dropout=DropoutOptions(dropout_ratio, dropout_with_image, pairing.filters),
        fingerprints=tuple(map(Path, fingerprints or [])),
        strict=on_bad == "strict",
        shards=shards,
        validation=validation,
        shard_megabytes=shard_megabytes,
        workers=workers or os.cpu_count() or 1,
    )
    chosen = open_engine(**engine)
    sets = question_sets(Path(prompts), Path(images) if images else None)
    offsets, named = offsets_of(chosen, tokenizer)
    made = Build(Path(output), sets, rules, texts, _with_progress(chosen), offsets, named, options, progress_bar, print)
    made.run()
    if is_first():
        manifest = made.manifest()
        print("\n".join(line.removeprefix("- ") for line in cost_lines(manifest["costs"])))
        where = f"{output}/shards" if shards else f"{output}/meta.json"
        print(
            f"{where}: {manifest['pairs']:,} pairs; {output}/manifest.json says what came from where, "
            f"{output}/README.md is the data card"
        )
        if (without := manifest["without_response"])["prompts"]:
            print(
                f"  {without['prompts']:,} prompts have a reason instead of a response: "
                f"{told(Counter(without['reasons']))}"
            )
            raise SystemExit(3)


def fingerprint(
    output: str,
    benchmark: str | None = None,
    data: str | None = None,
    questions: str | None = None,
    name: str | None = None,
    images: str | None = None,
) -> None:
    """Writes the list by which questions of a benchmark are found again in training data (`mpo prefs build
    --fingerprints`).

    For example: mpo prefs fingerprint --benchmark mathvista --data MATHVISTA --output mathvista.fingerprints.jsonl

    Args:
        output: the file to write.
        benchmark: mathvista, mathvision, m3cot, pope, crpe, mmvet, llava_bench or mmhal.
        data: the folder of its official files.
        questions: a file with a JSON object a line (question, image) of any other benchmark; instead of --benchmark.
        name: of that benchmark; default the file's name.
        images: the folder that picture paths are relative to; default --data, or the folder of the questions.
    """
    from mpo_lightning.prefs.overlap import write_fingerprints

    if (benchmark is None) == (questions is None) or (benchmark is not None and data is None):
        raise InputError("give either --benchmark NAME --data FOLDER, or --questions FILE")
    place = Path(str(questions or data))
    root = Path(images) if images else place if place.is_dir() else place.parent
    if benchmark is not None:
        from mpo_lightning.evals.registry import find_benchmark

        chosen = find_benchmark(benchmark)
        rows = chosen.load(place)
        title = chosen.title
        identity = chosen.id_field
    else:
        from mpo_lightning.evals.files import read_rows

        rows, title, identity = read_rows(place), name or place.stem, "id"
    with progress_bar("problems", len(rows)) as advance:
        count, pictures = write_fingerprints(problems_of(rows, identity, root), title, Path(output), advance)
    print(f"{output}: {count:,} problems, {pictures:,} pictures")


def problems_of(rows: list[dict[str, Any]], identity: str, root: Path) -> Iterator[tuple[str, str, list[Path]]]:
    """Id, question and pictures of problems."""
    from mpo_lightning.data.annotations.mmpr import picture_path
    from mpo_lightning.errors import BadRecord

    for number, row in enumerate(rows, start=1):
        names = row.get("image")
        names = [] if names in (None, "", []) else [names] if isinstance(names, str) else names
        try:
            yield (
                str(row.get(identity, number)),
                str(row.get("question") or row.get("text") or ""),
                [picture_path(root, str(name)) for name in names],
            )
        except BadRecord as error:
            raise InputError(f"problem {number}: {error}") from None


def sampling_of(temperature: float, top_k: int, top_p: float, seed: int) -> "Sampling":
    """How responses are drawn."""
    from mpo_lightning.models.sampling import Sampling

    return Sampling(temperature, top_k, top_p, seed)


def pair_options(
    most: int, reuse: int, difference: float, balance: bool, confidence: float, filters: list[str] | None
) -> Any:
    """How responses are paired.

    Raises:
        InputError: a value cannot be used.
    """
    from mpo_lightning.prefs.filters import FILTERS, check_filters
    from mpo_lightning.prefs.pair import PairOptions
    from mpo_lightning.prefs.pairing import PairingRules

    if most < 1 or reuse < 1 or not 0 <= difference < 1 or not 0 <= confidence <= 1:
        raise InputError(
            "--pairs_per_question and --reuse must be at least 1, --difference from 0 to below 1, --confidence from "
            "0 to 1"
        )
    names = tuple(FILTERS) if filters is None else tuple(filters)
    check_filters(names)
    return PairOptions(PairingRules(most, reuse, difference, balance), names, confidence)


def chosen_rows(meta: Path) -> Iterator[dict[str, Any]]:
    """The chosen sides of annotations as questions, each question and picture once."""
    from mpo_lightning.data.annotations.mmpr import parse_line, read_lines, read_meta
    from mpo_lightning.data.shards.write import unique_names
    from mpo_lightning.errors import BadRecord

    sets = read_meta(meta)
    for entry, name in zip(sets, unique_names([entry.name for entry in sets]), strict=True):
        seen: set[tuple[str, tuple[Path, ...]]] = set()
        for number, _, line in read_lines(entry.annotation):
            try:
                parsed = parse_line(line, entry.root)
            except BadRecord as error:
                raise InputError(f"{entry.annotation}:{number}: {error}") from None
            if (parsed.question, parsed.pictures) in seen:
                continue
            seen.add((parsed.question, parsed.pictures))
            root = entry.root.resolve()
            yield {
                "id": f"{name}-{number:08d}",
                "source": entry.name,
                "root": str(entry.root),
                "image": [str(path.relative_to(root)) for path in parsed.pictures],
                "question": parsed.question,
                "prompt": parsed.question,
                "max_tiles": entry.max_dynamic_patch,
                "chosen": parsed.chosen,
                "chosen_meta": parsed.extra.get("chosen_meta"),
                "answer": parsed.extra.get("answer_gt"),
            }


def offsets_of(engine: "Engine", tokenizer: str | None) -> "tuple[Offsets, str]":
    """Where the tokens of a text start and stop, by the tokenizer that is to cut responses; and a name that tells it
    from others.
    """
    from mpo_lightning.data.shards.reference_cache import tokenizer_fingerprint
    from mpo_lightning.inference.embedded import EmbeddedEngine

    if tokenizer is None and isinstance(engine, EmbeddedEngine):
        encode: Any = engine.processor.tokenizer
    elif tokenizer is not None:
        from mpo_lightning.models.loading import load_processor

        encode = load_processor(tokenizer).tokenizer
    else:
        from mpo_lightning.data.shards.sample import packaged_tokenizer

        packaged = packaged_tokenizer()
        return lambda text: packaged.encode(text, add_special_tokens=False).offsets, "packaged"
    return (
        lambda text: encode(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"],
        tokenizer_fingerprint(encode),
    )


def _with_progress(engine: "Engine") -> "Engine":
    """A server's engine that shows a bar; Lightning shows its own."""
    import sys
    from dataclasses import replace

    from mpo_lightning.inference.server import ServerEngine

    if not isinstance(engine, ServerEngine) or not sys.stderr.isatty():
        return engine
    from tqdm import tqdm

    return replace(engine, advance=tqdm(desc="answers", unit="").update)


def _tell_questions(counts: dict[str, Counter[str]]) -> None:
    from mpo_lightning.prefs.build import told

    for source, found in counts.items():
        used = found["verified"] + found["open"]
        print(f"  {source}: {used:,} questions; set aside: {told(found, ('verified', 'open'))}")


def _tell_pairs(numbers: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="what became of the responses", title_justify="left")
    table.add_column("what")
    table.add_column("count", justify="right")
    for name, count in numbers.items():
        if name != "precision":
            table.add_row(name.replace("_", " "), f"{count:,}")
    Console(width=None if Console().is_terminal else 100).print(table)
    for outcome, share in numbers.get("precision", {}).items():
        print(f"precision of '{outcome}' against known verdicts: {share:.1%}")
    if pairs := numbers.get("pairs"):
        print(
            f"tokens a pair: chosen {numbers.get('chosen tokens', 0) / pairs:.1f}, rejected "
            f"{numbers.get('rejected tokens', 0) / pairs:.1f}; rejected side longer in "
            f"{numbers.get('rejected longer', 0) / pairs:.0%}"
        )
