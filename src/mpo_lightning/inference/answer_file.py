"""Output file of responses: written as they arrive, so that a killed run can resume, and sorted at the end.

OUT.jsonl             one line per prompt, in order: its own fields, `response`, `response_tokens`, `finished`
OUT.jsonl.parts/      meta.json and finished lines of an unfinished run; removed when OUT.jsonl is complete
"""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from mpo_lightning.data.prompts import Prompts
from mpo_lightning.errors import InputError
from mpo_lightning.files.settings import recorded_difference
from mpo_lightning.files.whole import whole_file


def parts_of(output: Path) -> Path:
    """Returns the folder of finished lines."""
    return output.with_name(f"{output.name}.parts")


def parts_lock(output: Path) -> FileLock:
    """Returns the lock held by the run that writes an output; taking it does not wait."""
    return FileLock(output.with_name(f"{output.name}.parts.lock"), timeout=0)


def begin(output: Path, settings: dict[str, Any]) -> Path:
    """Returns the folder of finished lines, a new one or that of a run with the same settings.

    Args:
        output: output file.
        settings: all settings that affect a response.

    Raises:
        InputError: the output exists, or an unfinished run has other settings.
    """
    if output.exists():
        tidy(output)
        raise InputError(f"{output} exists already; choose another output, or delete it")
    parts = parts_of(output)
    if (different := recorded_difference(parts / "meta.json", settings)) is not None:
        raise InputError(
            f"{parts}: an unfinished run was made with {different}; finish it with the same, or delete the folder"
        )
    return parts


def tidy(output: Path) -> bool:
    """Removes the finished lines of a run that was killed between its last two steps, after it wrote the output.

    Returns:
        Whether there was such a run.
    """
    if not output.exists() or not parts_of(output).exists():
        return False
    lock = parts_lock(output)
    try:
        with lock:
            shutil.rmtree(parts_of(output), ignore_errors=True)
    except Timeout:
        return False  # the run is about to remove them itself
    Path(lock.lock_file).unlink(missing_ok=True)
    return True


def part_line(number: int, row: dict[str, Any]) -> bytes:
    """Returns a response as a finished line."""
    return json.dumps([number, row], ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def finished_lines(parts: Path) -> dict[int, tuple[Path, int]]:
    """Returns the file and offset in bytes of each response of earlier runs, by prompt number.

    Lines cut off by a kill are skipped.
    """
    found: dict[int, tuple[Path, int]] = {}
    for path in sorted(parts.glob("part-*.jsonl")):
        with path.open("rb") as file:
            place = 0
            for line in file:
                if line.endswith(b"\n"):
                    found[json.loads(line)[0]] = path, place
                place += len(line)
    return found


def finish(parts: Path, prompts: Prompts, output: Path) -> tuple[int, int]:
    """Writes the output and removes the finished lines.

    Returns:
        Number of prompts, and how many of them could not be used.

    Raises:
        InputError: responses are missing.
    """
    places, refused = finished_lines(parts), 0
    if len(places) < len(prompts):
        raise InputError(
            f"{parts}: {len(prompts) - len(places):,} of {len(prompts):,} answers are missing; run the same "
            "command again (with several machines, the output must be on a file system that all of them share)"
        )
    with ExitStack() as opened, whole_file(output, errors="backslashreplace") as file:
        sources: dict[Path, BinaryIO] = {
            path: opened.enter_context(path.open("rb")) for path in {path for path, _ in places.values()}
        }
        for number in range(len(prompts)):
            path, place = places[number]
            sources[path].seek(place)
            _, row = json.loads(sources[path].readline())
            fields = prompts.fields(number)
            if "error" in row:
                refused += 1
                fields = fields | {"where": prompts.where(number)}
            file.write(json.dumps(fields | row, ensure_ascii=False) + "\n")
    shutil.rmtree(parts)
    return len(prompts), refused
