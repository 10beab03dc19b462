"""Makes checked WebDataset shards from MMPR annotations, in two passes.

The first pass reads and checks every annotation line, finds its images, and splits pairs into training and validation.
Then the command reports how large the shards will be. The second pass packs pairs into tars in several processes. It
decodes every image once as proof, and scans what it wrote into the index. The first pass fixes which pair goes into
which tar, so a killed run continues with the missing tars.

A sample is a question with all its pairs: its images are decoded and stored once, and each of its answers too.
Different questions about one image carry a copy each, since a plain WebDataset pipeline reads one sample at a time.
Before it writes, the command prints how much larger than the images the shards are.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from webdataset import TarWriter

from mpo_lightning.data.annotations.mmpr import AnnotationLine, make_record, parse_line
from mpo_lightning.data.annotations.survey import PairPlace, QuestionPlace, Rejected, Survey
from mpo_lightning.data.pictures import open_picture
from mpo_lightning.data.records import QuestionRecord, question_of
from mpo_lightning.data.shards.index import ScannedShard, write_index
from mpo_lightning.data.shards.index_summary import DatasetEntry
from mpo_lightning.data.shards.jobs import SPLITS, ShardJob
from mpo_lightning.data.shards.sample import encode_sample
from mpo_lightning.data.shards.scan import scan_shard
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.process_pool import process_map
from mpo_lightning.files.whole import whole_file, write_json, write_text


@dataclass(frozen=True)
class ShardSummary:
    """The result of the second pass: numbers of pairs by split and by data set, and the skipped pairs."""

    pairs: dict[str, int]
    datasets: dict[str, int]
    rejected: list[Rejected]


def write_shards(
    found: Survey,
    jobs: list[ShardJob],
    output: Path,
    strict: bool,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> ShardSummary:
    """Runs the second pass. Writes tars, indexes, `manifest.json` and, if pairs were skipped, `quarantine.jsonl`.

    Args:
        found: result of the first pass.
        jobs: jobs from `plan_shards`.
        output: folder that is new, or left by a killed run of the same plan.
        strict: whether to stop at the first image that cannot be decoded instead of skipping its pair.
        workers: number of processes.
        progress: called with the number of pairs finished since the last call.

    Raises:
        InputError: the folder holds something else, the disk is too small, or (strict) an image is bad.
    """
    plan = plan_fingerprint(found, jobs)
    if (output / "manifest.json").is_file() and (output / ".work").is_dir():
        # The earlier run was killed while it cleaned up; everything is there.
        return _finished_summary(output, plan)
    _prepare_folder(plan, jobs, output)
    finished: list[tuple[ShardJob, ScannedShard, list[Rejected]]] = []
    with process_map(_write_shard, jobs, workers) as results:
        for job, (scanned, rejected) in zip(jobs, results, strict=True):
            if strict and rejected:
                raise InputError(
                    f"{rejected[0].where}: {rejected[0].reason} (or skip such pairs with --on_bad quarantine)"
                )
            finished.append((job, scanned, rejected))
            progress(job.pairs)
    all_rejected = found.rejected + [item for *_, rejected in finished for item in rejected]
    datasets = [DatasetEntry(entry.name, entry.repeat_time) for entry in found.sets]
    for split in SPLITS:
        scans = [scanned for job, scanned, _ in finished if job.path.parent.name == split]
        if scans:
            write_index(output / split, scans, datasets)
    summary = ShardSummary(
        pairs={
            split: sum(scan.entry.records for job, scan, _ in finished if job.path.parent.name == split)
            for split in SPLITS
        },
        datasets=dict(sum((Counter(_dataset_counts(scan)) for _, scan, _ in finished), Counter())),
        rejected=all_rejected,
    )
    if all_rejected:
        lines = (json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in all_rejected)
        write_text(output / "quarantine.jsonl", "".join(lines))
    manifest = {
        "plan": plan,
        "fingerprint": found.fingerprint,
        "pairs": summary.pairs,
        "datasets": summary.datasets,
        "set_aside": len(all_rejected),
    }
    write_json(output / "manifest.json", manifest)
    shutil.rmtree(output / ".work")
    return summary


def _finished_summary(output: Path, plan: str) -> ShardSummary:
    manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    if manifest["plan"] != plan:
        raise InputError(f"{output}: shards of other data or arguments are here; choose a new folder")
    rejected = []
    if manifest["set_aside"]:
        lines = (output / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
        rejected = [Rejected(**json.loads(line)) for line in lines]
    shutil.rmtree(output / ".work")
    return ShardSummary(manifest["pairs"], manifest["datasets"], rejected)


def _dataset_counts(scan: ScannedShard) -> dict[str, int]:
    return {name: int((scan.records["dataset"] == number).sum()) for number, name in enumerate(scan.datasets)}


def plan_fingerprint(found: Survey, jobs: list[ShardJob]) -> str:
    """A hash of what a run is about to write, so that another run's leftovers are not taken for its own."""
    digest = hashlib.sha256(found.fingerprint.encode())
    for job in jobs:
        digest.update(repr((job.path.parent.name, job.path.name, job.questions)).encode())
    return digest.hexdigest()


def _prepare_folder(plan: str, jobs: list[ShardJob], output: Path) -> None:
    marker = output / ".work" / "plan"
    if marker.is_file():
        if marker.read_text(encoding="utf-8") != plan:
            raise InputError(
                f"{output}: an unfinished run with other data or arguments was left here; delete the folder or "
                "choose another"
            )
    elif output.exists() and not output.is_dir():
        raise InputError(f"{output}: this is a file; choose a new folder")
    elif output.exists() and any(path.name != ".work" for path in output.iterdir()):
        raise InputError(
            f"{output}: the folder is not empty; choose a new one, so that no shard is mixed with older ones"
        )
    try:
        # Write the marker first: a folder with other content and no marker is not ours.
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_text(marker, plan)
        for folder in {job.path.parent for job in jobs}:
            folder.mkdir(exist_ok=True)
        free = shutil.disk_usage(output).free
    except OSError as error:
        raise InputError(f"{output}: cannot write there ({error.strerror})") from None
    missing = sum(job.bytes for job in jobs if not job.path.exists())
    if missing > free:
        raise InputError(
            f"{output}: the shards need {missing / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; choose a larger disk"
        )


def _write_shard(job: ShardJob) -> tuple[ScannedShard, list[Rejected]]:
    """Writes one tar, or takes the one that a killed run finished from the same files.

    The scan proves that it can be read back.

    Raises:
        InputError: it cannot.
    """
    notes = job.work / f"{job.path.parent.name}-{job.path.name}.json"
    sources = _sources(job)
    finished = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() and job.path.exists() else {}
    # Skipped pairs are tried again: their images may have been repaired.
    if finished.get("sources") == sources and not finished["rejected"]:
        return _read_back(job.path), []
    rejected: list[Rejected] = []
    with whole_file(job.path, "wb") as stream, TarWriter(stream, encoder=False, mtime=0) as tar:
        for question in job.questions:
            try:
                tar.write(encode_sample(_load_question(job, question)))
            except BadRecord as error:
                annotation = job.sets[question.pairs[0].dataset].annotation
                rejected += [Rejected(f"{annotation}:{pair.line}", str(error)) for pair in question.pairs]
    write_text(notes, json.dumps({"sources": sources, "rejected": len(rejected)}))
    return _read_back(job.path), rejected


def _read_back(path: Path) -> ScannedShard:
    scanned = scan_shard(path)
    for key, reason in scanned.refused:
        raise InputError(f"record '{key}' of {path}: {reason}")
    return scanned


def _sources(job: ShardJob) -> str:
    """A hash of path, size and modification time of the images that a tar is made of."""
    digest = hashlib.sha256()
    for question in job.questions:
        for path in _parse(job, question.pairs[0]).pictures:
            status = path.stat()
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _parse(job: ShardJob, pair: PairPlace, find_pictures: bool = True) -> AnnotationLine:
    entry = job.sets[pair.dataset]
    with entry.annotation.open("rb") as file:
        file.seek(pair.offset)
        return parse_line(file.readline(), entry.root, find_pictures)


def _load_question(job: ShardJob, question: QuestionPlace) -> QuestionRecord:
    lines = [_parse(job, pair, find_pictures=pair is question.pairs[0]) for pair in question.pairs]
    images = []
    for path in lines[0].pictures:
        data = path.read_bytes()
        try:
            open_picture(data)
        except BadRecord as error:
            raise BadRecord(f"{path}: {error}") from None
        images.append(data)
    entry, name = job.sets[question.pairs[0].dataset], job.names[question.pairs[0].dataset]
    return question_of(
        [
            make_record(entry, pair.line, line, name, images=tuple(images))
            for pair, line in zip(question.pairs, lines, strict=True)
        ]
    )
