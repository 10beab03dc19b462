"""`mpo data ...`: makes, checks and shows shards of preference pairs."""

import os
from pathlib import Path
from typing import Any, Literal

from mpo_lightning.commands.display.progress import progress_bar
from mpo_lightning.errors import InputError
from mpo_lightning.inference.options import TrainerOptions

OnBad = Literal["strict", "quarantine"]


def shard(
    meta: str,
    output: str,
    validation: float = 0.0,
    on_bad: OnBad = "strict",
    seed: int = 0,
    shard_megabytes: float = 256.0,
    workers: int | None = None,
) -> None:
    """Turns MMPR annotations into checked WebDataset shards with an index: OUTPUT/train and OUTPUT/validation.

    Every line is checked and every image decoded. Started again after a kill it resumes.

    Args:
        meta: an MMPR meta.json.
        output: a new folder.
        validation: share of pairs to hold out; pairs of one question or one image stay on one side.
        on_bad: strict stops at the first bad pair; quarantine skips bad pairs and lists them in OUTPUT/quarantine.jsonl
            (exit code 3).
        seed: seed of the choice of held-out pairs.
        shard_megabytes: largest size of a shard in MB.
        workers: number of processes; default one a core.
    """
    from mpo_lightning.data.annotations.survey import survey
    from mpo_lightning.data.shards.jobs import plan_shards
    from mpo_lightning.data.shards.write import write_shards

    if not 0 <= validation < 1:
        raise InputError(f"--validation is {validation}; it must be at least 0 and below 1")
    if shard_megabytes <= 0 or (workers is not None and workers < 1):
        raise InputError("--shard_megabytes and --workers must be above 0")
    strict = on_bad == "strict"
    with progress_bar("annotations", unit="bytes") as advance:
        found = survey(Path(meta), strict, advance)
    jobs = plan_shards(found, Path(output), validation, seed, shard_bytes=int(shard_megabytes * 1e6))
    questions, size = sum(len(job.questions) for job in jobs), sum(job.bytes for job in jobs)
    times = f" ({size / found.picture_bytes:.1f}x, since every question carries its images)" if found.pictures else ""
    print(
        f"{len(found.pairs):,} pairs of {questions:,} questions; images {found.picture_bytes / 1e6:,.1f} MB, shards "
        f"about {size / 1e6:,.1f} MB{times}"
    )
    with progress_bar("pairs", total=len(found.pairs)) as advance:
        summary = write_shards(
            found,
            jobs,
            output=Path(output),
            strict=strict,
            workers=workers or min(len(jobs), os.cpu_count() or 1),
            progress=advance,
        )
    for split, pairs in summary.pairs.items():
        if pairs:
            print(f"  {Path(output) / split}: {pairs:,} pairs")
    written = sum(summary.pairs.values())
    if validation and written:
        share = summary.pairs["validation"] / written
        print(
            f"  held out: {share:.1%} of the pairs, {validation:.1%} asked for; pairs that share a question or image "
            "stay together"
        )
    for dataset, pairs in summary.datasets.items():
        print(f"  data set {dataset}: {pairs:,} pairs")
    if summary.rejected:
        print(f"  skipped: {len(summary.rejected):,} pairs, reasons in {Path(output) / 'quarantine.jsonl'}")
        if not written:
            raise InputError(f"{meta}: every pair was skipped, so there is nothing to train on")
        raise SystemExit(3)


def check(folder: str, workers: int | None = None) -> None:
    """Reads every record of a shard folder and lists problems of checksums, rules and images (exit code 1).

    Args:
        folder: a shard folder, or one with train/ and validation/ in it.
        workers: number of processes; default one a core.
    """
    from mpo_lightning.data.shards.check import check_folder, split_folders

    bad = 0
    for path in split_folders(Path(folder)):
        with progress_bar(str(path)) as advance:
            report = check_folder(path, workers or os.cpu_count() or 1, advance)
        print(
            f"{path}: {report.records:,} records, {report.shards} shards, {report.pictures:,} images, "
            f"{len(report.problems)} problems"
        )
        for way, count in report.otherwise.items():
            print(f"  {count:,} images {way}")
        for problem in report.problems[:20]:
            print(f"  {problem}")
        if len(report.problems) > 20:
            print(f"  and {len(report.problems) - 20:,} more")
        bad += len(report.problems)
    if bad:
        raise SystemExit(1)


def show(
    folder: str,
    output: str = "pairs.html",
    pairs: int = 32,
    model: str | None = None,
    max_tiles: int = 12,
    seed: int = 0,
) -> None:
    """Writes a self-contained HTML page of pairs: images with tiles, question, both responses with their difference,
    token counts, and history.

    A pair that cannot be read is shown with the reason (exit code 1).

    Args:
        folder: a shard folder; or a meta.json in MMPR's form, or the folder that it is in.
        output: the page to write.
        pairs: number of pairs, drawn at random; all if there are fewer.
        model: checkpoint folder whose tokenizer and tile size are used; default the packaged tokenizer and 448 pixels.
        max_tiles: most tiles of a pair's images, thumbnails not counted.
        seed: seed of the draw.
    """
    from mpo_lightning.commands.display.pairs_page import write_page

    if pairs < 1 or max_tiles < 1:
        raise InputError("--pairs and --max_tiles must be at least 1")
    options: dict[str, Any] = {}
    if model is not None:
        from mpo_lightning.models.loading import config_of, family_of_folder

        family, _ = family_of_folder(model)
        encode = family.tokenizer(Path(model)).encode
        options = {
            "pictures": family.pictures(config_of(model)),
            "count_tokens": lambda text: len(encode(text, add_special_tokens=False)),
        }
    count, damaged = write_page(Path(folder), Path(output), pairs, seed, max_tiles=max_tiles, **options)
    print(f"{output}: {count} pairs; open it in a browser")
    if damaged:
        print(f"  {damaged} of them cannot be read; the page shows why")
        raise SystemExit(1)


def index(folder: str, on_bad: OnBad = "strict") -> None:
    """Indexes a folder of WebDataset tars made elsewhere, in one scan, so that it can be trained on.

    Args:
        folder: folder of the tars; FOLDER/index is written.
        on_bad: strict stops at the first record that breaks a rule; quarantine skips such records and lists them in
            FOLDER/index/quarantine.jsonl (exit code 3). Compressed tars and folders with tars beside the indexed ones
            are named (exit code 3 too).
    """
    from mpo_lightning.data.shards.check import index_folder

    with progress_bar("shards") as advance:
        report = index_folder(Path(folder), on_bad == "strict", advance)
    print(f"{folder}: {report.records:,} records indexed, {report.refused:,} skipped")
    for entry in report.datasets:
        print(f"  data set {entry.name or '(no name)'}: repeat_time {entry.repeat_time:g}")
    for name in report.left_out:
        way_out = "unpack it to a plain file that ends in .tar"
        if name.endswith("/"):
            way_out = "index that folder by itself"
        elif name.lower().endswith(".tar"):
            way_out = "rename it, so that it ends in .tar"
        print(f"  not indexed: {name} ({way_out})")
    if report.refused or report.left_out:
        raise SystemExit(3)


def import_pairs(
    source: str,
    output: str,
    images: str | None = None,
    columns: Literal["auto", "trl", "ms-swift", "rlaif-v"] = "auto",
    on_bad: OnBad = "strict",
) -> None:
    """Turns preference pairs with the columns of TRL, ms-swift or RLAIF-V into MMPR annotations, for `mpo data shard`.

    Args:
        source: JSON lines or parquet (pip install "mpo-lightning[parquet]").
        output: a new folder.
        images: folder that image paths are relative to; default that of the source.
        columns: format of the columns; auto looks at the first row.
        on_bad: strict stops at a row that cannot be used; quarantine skips it and lists it in OUTPUT/quarantine.jsonl
            (exit code 3).
    """
    from mpo_lightning.data.annotations.foreign import import_pairs as import_from

    with progress_bar("rows") as advance:
        written, refused, found = import_from(
            Path(source),
            Path(output),
            images=Path(images) if images else None,
            columns=columns,
            strict=on_bad == "strict",
            advance=advance,
        )
    print(
        f"{output}: {written:,} pairs from the columns of {found}; next: mpo data shard --meta "
        f"{Path(output) / 'meta.json'} --output SHARDS"
    )
    if refused:
        print(f"  skipped: {refused:,} rows, reasons in {Path(output) / 'quarantine.jsonl'}")
        raise SystemExit(3)


def reference(
    model: str,
    shards: str,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed",
    micro_batch_size: int = 4,
    max_tiles: int = 12,
    max_length: int = 6144,
    pixels: Literal["seen", "reference"] = "seen",
    overlong: Literal["truncate", "set_aside"] = "truncate",
    template: str = "auto",
    system_message: str = "auto",
    trained_newline: bool | None = None,
    thinking: Literal["trained", "context"] = "trained",
    on_bad: OnBad = "strict",
    num_workers: int = 4,
    attention: Literal["auto", "flash-attn", "varlen", "sdpa"] = "auto",
    trainer: TrainerOptions = TrainerOptions(),  # noqa: B008 (frozen)
) -> None:
    """Runs the reference once over the shards and keeps its log-probs beside them, for `mpo fit
    --model.reference_source cache`.

    Training refuses a cache that was made with other weights, precision, limits, template or shards. Started again
    after a kill it resumes, on any number of devices.

    Args:
        model: checkpoint folder of the reference.
        shards: a shard folder, or one with train/ and validation/ in it.
        precision: precision of the arithmetic; training must have the same (trainer.precision).
        micro_batch_size: questions that a device computes at once, each with all its pairs.
        max_tiles: most tiles of a pair's images; training must have the same (data.max_tiles).
        max_length: most tokens of prompt plus response; training must have the same (data.max_length).
        pixels: images as a person sees them, or with the released code's pixels; training must have the same
            (data.pixels).
        overlong: what happens to a longer response; training must do the same (data.overlong).
        template: chat template; training must have the same (data.template).
        system_message: system message; training must have the same (data.system_message).
        trained_newline: as data.trained_newline in training.
        thinking: as data.thinking in training.
        on_bad: strict stops at the first record that cannot be used; quarantine leaves it without log-probs (exit code
            3).
        num_workers: loader processes of each device.
        attention: backend of the language model's attention.
        trainer: devices to run on.
    """
    from mpo_lightning.data.shards.check import split_folders
    from mpo_lightning.models.loading import load_processor
    from mpo_lightning.training.reference_pass import run_reference_pass

    if min(micro_batch_size, max_tiles, max_length) < 1 or num_workers < 0:
        raise InputError(
            "--micro_batch_size, --max_tiles and --max_length must be at least 1, and --num_workers at least 0"
        )
    processor = load_processor(model, template, system_message, trained_newline)
    encoder = processor.encoder(max_tiles, max_length, overlong, pixels, thinking)
    options = {"precision": precision, **trainer.as_dict()}
    missing = 0
    for folder in split_folders(Path(shards)):
        target, records, without = run_reference_pass(
            folder,
            model,
            encoder,
            trainer_options=options,
            strict=on_bad == "strict",
            micro_batch_size=micro_batch_size,
            num_workers=num_workers,
            attention=attention,
        )
        print(f"{target}: {records:,} records, {without:,} without log-probs")
        missing += without
    if missing:
        raise SystemExit(3)
