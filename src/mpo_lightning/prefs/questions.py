"""The first stage: questions are checked, filtered, and made into prompts.

Questions come in the form of MMPR's prompts: a meta.json that lists data sets, each a jsonl with `image`, `question`
and `answer` and an image folder; or one such jsonl. A prepared question is a JSON line with `id`, `source`, `root`,
`image`, `question`, `answer`, `kind`, `prompt` (the model's input), and the line's other fields.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mpo_lightning.answers.check import is_unusable
from mpo_lightning.answers.question import question_of
from mpo_lightning.data.annotations.mmpr import AnnotationSet, picture_path, read_lines, read_meta, refuse_long
from mpo_lightning.data.prompts import RESERVED, Prompt, QuestionFile, without_hint
from mpo_lightning.data.records import checked_question, checked_system
from mpo_lightning.data.shards.jobs import unique_names
from mpo_lightning.data.words import plain_words
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.files.strict_json import parse_json
from mpo_lightning.files.whole import whole_file
from mpo_lightning.prefs.filters import MARKS, STRUCTURE
from mpo_lightning.prefs.prompt_files import AS_ASKED, PromptFiles
from mpo_lightning.prefs.sources import Source, source_of

Purpose = Literal["verified", "open"]
"""Questions whose answers can be checked, and the others, which only DropoutNTP uses."""

ADDED = {*RESERVED, "source", "root", "kind", "prompt", "max_tiles", "sample", "seed", "begun", "purpose"}
ANNOUNCED = re.compile(r"(?:final\s+answer|\banswer|答案)\s*(?:is|:|：|是|为)\s*(?=(.{1,80}))", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.?!](?=\s|$)|[。？！]")
OPEN = ("or", "and", "if", "to", "/")
"""Words after an answer that make it one of several: "Answer: yes or no"."""


@dataclass(frozen=True)
class Rejection:
    """A skipped question: `where` is its file and line, `rule` the name of the rule that it failed."""

    source: str
    where: str
    rule: str
    reason: str


def question_sets(path: Path, images: Path | None) -> list[AnnotationSet]:
    """Returns the data sets of a meta.json, or a jsonl as one data set.

    Raises:
        InputError: the file cannot be used.
    """
    if path.suffix == ".json":
        return read_meta(path)
    root = images or path.parent
    if not path.is_file() or not root.is_dir():
        raise InputError(
            f"{path if not path.is_file() else root}: there is no such {'file' if not path.is_file() else 'folder'}"
        )
    return [AnnotationSet(path.stem, root, path)]


def prepare(
    sets: Sequence[AnnotationSet],
    sources: Sequence[Source],
    prompts: PromptFiles,
    seed: int,
    seen_in_evals: Callable[[str, list[Path]], str | None] = lambda question, pictures: None,
    max_tiles: int | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> Iterator[dict[str, Any] | Rejection]:
    """Yields each question in order, as a prepared row or as a rejection.

    Args:
        sets: data sets of questions.
        sources: rules for the data sets.
        prompts: texts of the kinds of prompt.
        seed: seed of the choice among a source's kinds of prompt.
        seen_in_evals: returns the benchmark that holds a question or its image, if any.
        max_tiles: most tiles of a question's images where its source sets no limit.
        advance: called with the number of bytes read.
    """
    seen: set[bytes] = set()
    for entry, name in zip(sets, unique_names([entry.name for entry in sets]), strict=True):
        source = source_of(entry.name, sources)
        for number, _, line in read_lines(entry.annotation):
            advance(len(line))
            where = f"{entry.annotation}:{number}"
            try:
                fields, pictures = _parsed(line, entry.root)
            except BadRecord as error:
                yield Rejection(entry.name, where, "unusable", str(error))
                continue
            row = _row(fields, entry, identity=f"{name}-{number:08d}", source=source, prompts=prompts, seed=seed) | {
                "max_tiles": source.tiles or max_tiles
            }
            if row["purpose"] == "verified" and is_unusable(question_of(row)):
                reason = f"the answer {row['answer']!r:.40} reads to nothing that a response could be compared with"
                yield Rejection(entry.name, where, "unusable answer", reason)
            elif (rejection := _refused(row, pictures, where, seen, seen_in_evals=seen_in_evals)) is not None:
                yield rejection
            else:
                yield row


def _parsed(line: bytes, root: Path) -> tuple[dict[str, Any], list[Path]]:
    refuse_long(line, "the line")
    try:
        fields = parse_json(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadRecord(f"the line is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except ValueError as error:
        raise BadRecord(f"the line is not JSON ({error})") from None
    if not isinstance(fields, dict) or "question" not in fields:
        raise BadRecord("the line is not an object with a 'question'")
    for name in ADDED & fields.keys():
        raise BadRecord(f"the field '{name}' is one that the pipeline adds; rename it")
    names = fields.get("image")
    names = [] if names in (None, "", []) else [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise BadRecord(f"'image' is {names!r:.60}; it must be a path, a list of paths, or absent")
    answer = fields.get("answer")
    if answer is not None and not isinstance(answer, str | int | float):
        raise BadRecord(f"'answer' is a {type(answer).__name__}; it must be a text or a number")
    if answer is not None:
        question_of(fields)  # refuses an unknown answer_type
    fields["question"] = checked_question(fields["question"], len(names))
    choices = fields.get("choices")
    if choices not in (None, []) and not (
        isinstance(choices, list) and all(isinstance(one, str | int | float) for one in choices)
    ):
        raise BadRecord(f"'choices' is {choices!r:.60}; it must be a list of texts, or absent")
    for what, text, marks in (("question", fields["question"], STRUCTURE), ("answer", str(answer), MARKS)):
        for mark in marks:
            if mark in text:
                raise BadRecord(
                    f"the {what} contains the special token {mark}, which would forge the structure of the prompt"
                )
    # "./a.png" and "a.png" are one image.
    fields["image"] = [str(PurePosixPath(name)) for name in names]
    return fields, [picture_path(root, name) for name in names]


def _row(
    fields: dict[str, Any], entry: AnnotationSet, identity: str, source: Source, prompts: PromptFiles, seed: int
) -> dict[str, Any]:
    answer = "" if fields.get("answer") is None else str(fields["answer"]).strip()
    verified = source.correctness and bool(answer)
    turn = int.from_bytes(hashlib.blake2b(f"{seed} {identity}".encode(), digest_size=4).digest())
    kind = source.kinds[turn % len(source.kinds)] if verified else AS_ASKED
    rest = {name: value for name, value in fields.items() if name not in ("id", "image", "question", "answer")}
    if "id" in fields:
        rest["source_id"] = fields["id"]
    return {
        "id": identity,
        "source": entry.name,
        "purpose": "verified" if verified else "open",
        "root": str(entry.root),
        "image": fields["image"],
        "question": fields["question"],
        "answer": answer,
        "kind": kind,
        "prompt": worded(with_choices(fields), kind, prompts),
        **rest,
    }


def with_choices(fields: dict[str, Any]) -> str:
    """Adds a question's `choices` as lines A., B., ... before its request for a short answer, unless it lists them.

    Args:
        fields: fields of the question.
    """
    question = str(fields["question"])
    choices = [str(choice) for choice in fields.get("choices") or []]
    bare = without_hint(question)
    if not choices or all(choice in bare for choice in choices):
        return question
    lines = "".join(f"\n{chr(ord('A') + place)}. {choice}" for place, choice in enumerate(choices))
    return bare + lines + question[len(bare) :]


def says_its_answer(question: str, answer: str) -> str | None:
    """Returns the words by which a question gives away its answer; None if it does not.

    Args:
        question: text of the question.
        answer: ground truth.
    """
    wanted = plain_words(answer)
    for announced in ANNOUNCED.finditer(question) if wanted else ():
        said = plain_words(SENTENCE_END.split(announced[1])[0])
        behind = said.removeprefix(f"{wanted} ").split(" ")
        begins = (
            said.startswith(f"{wanted} ")
            and not (len(wanted) == 1 and wanted.isalpha())
            and not set(behind) & set(OPEN)
        )
        if said == wanted or begins:
            return announced[0] + announced[1]
    return None


def worded(question: str, kind: str, prompts: PromptFiles) -> str:
    """Makes a question into a prompt of a kind; image marks before the question stay in front."""
    lead = re.match(r"(?:<image>\s*)+", question)
    head = lead[0] if lead else ""
    return head + prompts.ask(question[len(head) :], kind) if kind != AS_ASKED else question


def _refused(
    row: dict[str, Any],
    pictures: list[Path],
    where: str,
    seen: set[bytes],
    seen_in_evals: Callable[[str, list[Path]], str | None],
) -> Rejection | None:
    if (said := says_its_answer(row["question"], row["answer"])) is not None:
        return Rejection(row["source"], where, "leaked_answer", f"the question says its answer ({said!r:.60})")
    asked = [
        plain_words(row["question"]),
        row["root"],
        row["image"],
        [str(choice) for choice in row.get("choices") or []],
    ]
    key = hashlib.blake2b(repr(asked).encode(), digest_size=10).digest()
    if key in seen:
        return Rejection(
            row["source"], where, "duplicate_question", "the same question about the same images came before"
        )
    seen.add(key)
    if (benchmark := seen_in_evals(row["question"], pictures)) is not None:
        return Rejection(row["source"], where, "eval_overlap", f"the question or its image is in {benchmark}")
    return None


def write_questions(
    rows: Iterator[dict[str, Any] | Rejection], outputs: dict[Purpose, Path], rejected: Path, strict: bool
) -> dict[str, Counter[str]]:
    """Writes prepared questions by purpose, and rejected questions with their reasons.

    Returns:
        By source, the numbers of `verified` and `open` questions, and of rejections by rule.

    Raises:
        InputError: a line is unusable (strict).
    """
    counts: dict[str, Counter[str]] = {}
    with ExitStack() as opened:
        # Files are completed in reverse order, so the file of rejections exists before the others.
        of_path = {path: opened.enter_context(whole_file(path)) for path in dict.fromkeys(outputs.values())}
        aside = opened.enter_context(whole_file(rejected))
        for row in rows:
            if isinstance(row, Rejection):
                if strict and row.rule == "unusable":
                    raise InputError(f"{row.where}: {row.reason} (or skip such questions with --on_bad quarantine)")
                counts.setdefault(row.source, Counter())[row.rule] += 1
                aside.write(json.dumps(vars(row), ensure_ascii=False) + "\n")
                continue
            counts.setdefault(row["source"], Counter())[row["purpose"]] += 1
            of_path[outputs[row["purpose"]]].write(json.dumps(row, ensure_ascii=False) + "\n")
    return counts


class PreparedQuestions(QuestionFile):
    """A file of prepared questions as `Prompts`."""

    def __getitem__(self, number: int) -> Prompt:
        row = self.row(number)
        with_picture = row.get("with_image", True)
        names = row["image"] if with_picture else []
        images = tuple(picture_path(Path(row["root"]), name).read_bytes() for name in names)
        prompt = row["prompt"] if with_picture else re.sub(r"<image>\n?", "", row["prompt"])
        return Prompt(
            checked_question(prompt, len(images)),
            images,
            row["max_tiles"],
            self.fields(number),
            begun=row.get("begun", ""),
            system=checked_system(row.get("system_prompt")),
        )

    def row(self, number: int) -> dict[str, Any]:
        """Reads a prepared question by its number."""
        row: dict[str, Any] = json.loads(self._line(number))
        return row

    def fields(self, number: int) -> dict[str, Any]:
        """Reads a prepared question by its number, as the fields of its prompt."""
        return self.row(number)
