"""The pipeline from questions to shards. Each stage is complete on disk before the next, so a killed build resumes.

    questions/verified.jsonl, open.jsonl    prepared questions: those whose answers can be checked, the others
    questions/rejected.jsonl                skipped questions with reasons
    responses/verified.jsonl                several responses to each question
    responses/open.jsonl                    one response to each question
    right.jsonl                             one right response to each question that has one
    correctness/                            pairs of right and wrong, in MMPR's form
    begun.jsonl, responses/begun.jsonl      first halves of good responses; second halves written without the image
    dropout_ntp/                            DropoutNTP pairs, in MMPR's form
    meta.json                               all pairs
    shards/                                 all pairs as checked shards
    manifest.json, README.md                settings, counts, reasons, costs; the data card

Several processes (devices, machines) may run a build: they sample together, and the first does the rest.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpo_lightning.data.annotations.mmpr import AnnotationSet
from mpo_lightning.data.annotations.survey import survey
from mpo_lightning.data.shards.jobs import plan_shards
from mpo_lightning.data.shards.write import write_shards
from mpo_lightning.errors import InputError
from mpo_lightning.files.digests import file_digest
from mpo_lightning.files.settings import take_output_folder
from mpo_lightning.files.whole import whole_file, write_json
from mpo_lightning.inference.answer_file import tidy
from mpo_lightning.inference.engine import Engine, Progress
from mpo_lightning.prefs.annotations import joined_meta
from mpo_lightning.prefs.dropout_ntp import Offsets, begun_rows, pair_rows
from mpo_lightning.prefs.filters import FAILED, first_failed, no_response
from mpo_lightning.prefs.manifest import data_card, in_words, manifest_of
from mpo_lightning.prefs.options import BuildOptions
from mpo_lightning.prefs.overlap import read_fingerprints
from mpo_lightning.prefs.pair import make_pairs
from mpo_lightning.prefs.prompt_files import PromptFiles
from mpo_lightning.prefs.questions import PreparedQuestions, Purpose, prepare, write_questions
from mpo_lightning.prefs.sample import draw
from mpo_lightning.prefs.sources import Source, source_of
from mpo_lightning.prefs.verdicts.verifier import verifier_replies, verifier_settings
from mpo_lightning.runs.rank import is_first, wait_for


@dataclass(frozen=True)
class Build:
    """A build in a folder.

    Attributes:
        folder: the output folder.
        sets: data sets of questions.
        sources: rules for the data sets.
        prompts: texts of the kinds of prompt.
        engine: the engine that writes responses.
        offsets: places of a text's tokens, for cutting responses.
        tokenizer: name of the tokenizer behind `offsets`.
        options: options of the build.
        progress: opens progress bars.
        say: called with a line about each stage's result.
    """

    folder: Path
    sets: list[AnnotationSet]
    sources: list[Source]
    prompts: PromptFiles
    engine: Engine
    offsets: Offsets
    tokenizer: str
    options: BuildOptions
    progress: Progress
    say: Callable[[str], None]

    def run(self) -> None:
        """Runs all stages that are not complete.

        Raises:
            InputError: the input cannot be used, or the folder holds a build with other settings.
        """
        options = self.options
        questions = {purpose: self.folder / "questions" / f"{purpose}.jsonl" for purpose in ("verified", "open")}
        if any(source.dropout_ntp for source in self.sources):
            self.engine.check_begun(options.dropout.with_image)
        if is_first():
            take_output_folder(self.folder, "build.json", self.settings(), "a build")
            for name in ("questions", "responses"):
                (self.folder / name).mkdir(exist_ok=True)
            self._stage("questions/counts.json", self._questions)
        wait_for(self.folder / "questions/counts.json")
        self._sampled(questions["verified"], "verified", options.samples, 0, tokens=options.max_new_tokens)
        self._sampled(questions["open"], "open", 1, 1, tokens=options.max_new_tokens)
        if is_first():
            self._stage("correctness/counts.json", self._correctness)
            self._stage("begun.counts.json", self._begun)
        wait_for(self.folder / "begun.counts.json")
        self._sampled(self.folder / "begun.jsonl", "begun", 1, 2, tokens=options.dropout.max_new_tokens)
        if is_first():
            self._stage("dropout_ntp/counts.json", self._dropout)
            self._end()

    def manifest(self) -> dict[str, Any]:
        """Reads the manifest of a complete build."""
        return json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))

    def settings(self) -> dict[str, Any]:
        """Returns all settings that decide the pairs."""
        decides = asdict(self.options)
        del decides["workers"], decides["verifier"]
        decides |= verifier_settings(self.options.verifier)
        decides["fingerprints"] = {str(path): file_digest(path) for path in self.options.fingerprints}
        return json.loads(
            json.dumps(
                {
                    "questions": {entry.name: file_digest(entry.annotation) for entry in self.sets},
                    "sources": [source.as_dict() for source in self.sources],
                    "prompts": self.prompts.version,
                    "engine": self.engine.description(),
                    "tokenizer": self.tokenizer,
                    "options": decides,
                }
            )
        )

    def _stage(self, counts: str, work: Callable[[], Any]) -> Any:
        """Runs a stage unless its counts exist, which are written last; returns the counts."""
        path = self.folder / counts
        if not path.is_file():
            write_json(path, work())
        return json.loads(path.read_text(encoding="utf-8"))

    def _questions(self) -> dict[str, Counter[str]]:
        options = self.options
        outputs: dict[Purpose, Path] = {
            "verified": self.folder / "questions/verified.jsonl",
            "open": self.folder / "questions/open.jsonl",
        }
        overlap = read_fingerprints(options.fingerprints)
        total = sum(entry.annotation.stat().st_size for entry in self.sets)
        with self.progress("questions", total, "bytes") as advance:
            rows = prepare(
                self.sets,
                self.sources,
                prompts=self.prompts,
                seed=options.sampling.seed,
                seen_in_evals=overlap,
                max_tiles=self.engine.max_tiles,
                advance=advance,
            )
            counts = write_questions(rows, outputs, self.folder / "questions/rejected.jsonl", options.strict)
        totals = sum(counts.values(), Counter())
        if not totals["verified"] + totals["open"]:
            raise InputError(f"{self.folder}: no question can be used; questions/rejected.jsonl says why")
        self.say(
            f"questions: {totals['verified']:,} whose answers can be checked, {totals['open']:,} others; skipped: "
            f"{in_words(totals, ('verified', 'open'))}"
        )
        return counts

    def _sampled(self, questions: Path, name: str, samples: int, stage: int, tokens: int) -> None:
        output = self.folder / "responses" / f"{name}.jsonl"
        if output.is_file() or not questions.stat().st_size:
            if is_first():
                tidy(output)
            return
        sampling = self.options.sampling.of_stage(stage)
        count, refused = draw(questions, output, self.engine, samples, sampling=sampling, max_new_tokens=tokens)
        if count:
            self.say(
                f"responses, {name}: {count:,}" + (f"; {refused:,} of them could not be answered" if refused else "")
            )

    def _correctness(self) -> dict[str, dict[str, Any]]:
        responses = self.folder / "responses/verified.jsonl"
        right = self.folder / "right.jsonl"
        if not responses.is_file():
            right.touch()
            (self.folder / "correctness").mkdir(exist_ok=True)
            return {}
        options = self.options
        replies = self.folder / "verifier.jsonl"
        verifier = verifier_replies(
            responses, replies, options.pairing, options.verifier, workers=options.workers, progress=self.progress
        )
        with self.progress("pairs", responses.stat().st_size, "bytes") as advance:
            counts = make_pairs(
                responses,
                self.folder / "correctness",
                options=options.pairing,
                workers=options.workers,
                advance=advance,
                right=right,
                verifier=verifier,
            )
        self.say(f"pairs of right and wrong: {sum(found.numbers['pairs'] for found in counts.values()):,}")
        return {source: found.as_dict() for source, found in counts.items()}

    def _begun(self) -> dict[str, Counter[str]]:
        counts: dict[str, Counter[str]] = {}
        with whole_file(self.folder / "begun.jsonl") as file:
            for row in begun_rows(self._good_responses(counts), self.options.dropout, self.offsets, counts):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return counts

    def _good_responses(self, counts: dict[str, Counter[str]]) -> Iterator[dict[str, Any]]:
        """Yields a response to each question of DropoutNTP: a right one, or the only one if it cannot be checked."""
        with (self.folder / "right.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                if source_of(row["source"], self.sources).dropout_ntp:
                    yield row
        path = self.folder / "responses/open.jsonl"
        if not path.is_file():
            return
        questions = PreparedQuestions(self.folder / "questions/open.jsonl")
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                response = json.loads(line)
                numbers = counts.setdefault(response["source"], Counter())
                numbers["chosen tokens"] += response.get("response_tokens") or 0
                if not source_of(response["source"], self.sources).dropout_ntp:
                    continue
                if (
                    failed := no_response(response) or first_failed(response, self.options.dropout.filters)
                ) is not None:
                    numbers[failed if failed.startswith(FAILED) else f"chosen {failed}"] += 1
                    continue
                kept = {
                    name: response[name]
                    for name in ("seed", "response_tokens", "finished")
                    if response.get(name) is not None
                }
                yield questions.row(number) | {"chosen": response["response"], "chosen_meta": kept}

    def _dropout(self) -> dict[str, Counter[str]]:
        answers = self.folder / "responses/begun.jsonl"
        if not answers.is_file():
            (self.folder / "dropout_ntp").mkdir(exist_ok=True)
            return {}
        counts = pair_rows(answers, self.folder / "dropout_ntp", self.options.dropout, self.engine.exact_seams)
        self.say(f"pairs without the image: {sum(found['pairs'] for found in counts.values()):,}")
        return counts

    def _end(self) -> None:
        if (self.folder / "manifest.json").is_file():
            return
        metas = [
            path for name in ("correctness", "dropout_ntp") if (path := self.folder / name / "meta.json").is_file()
        ]
        meta = joined_meta(self.folder, metas)
        if not json.loads(meta.read_text(encoding="utf-8")):
            raise InputError(
                f"{self.folder}: the build made no pair; see its counts.json files for the reasons and responses/ for "
                "the model's words"
            )
        counts = {
            name: json.loads((self.folder / file).read_text(encoding="utf-8"))
            for name, file in {
                "questions": "questions/counts.json",
                "correctness": "correctness/counts.json",
                "begun": "begun.counts.json",
                "dropout_ntp": "dropout_ntp/counts.json",
            }.items()
        }
        runs = {
            path.name.removesuffix(".jsonl.run.json"): json.loads(path.read_text(encoding="utf-8"))
            for path in sorted((self.folder / "responses").glob("*.run.json"))
        }
        manifest = manifest_of(self.settings(), counts, runs, json.loads(meta.read_text(encoding="utf-8")))
        if self.options.shards:
            manifest["shards"] = self._shards(meta)
        with whole_file(self.folder / "README.md") as file:
            file.write(data_card(manifest))
        write_json(self.folder / "manifest.json", manifest)

    def _shards(self, meta: Path) -> dict[str, int]:
        options, shards = self.options, self.folder / "shards"
        done, size = shards / "manifest.json", int(options.shard_megabytes * 1e6)
        if done.is_file() and not (shards / ".work").is_dir():
            pairs: dict[str, int] = json.loads(done.read_text(encoding="utf-8"))["pairs"]
            return pairs
        found = survey(meta, True)
        jobs = plan_shards(found, shards, options.validation, options.sampling.seed, shard_bytes=size)
        with self.progress("shards", len(found.pairs), "pairs") as advance:
            summary = write_shards(
                found,
                jobs,
                output=shards,
                strict=True,
                workers=min(options.workers, len(jobs)),
                progress=advance,
            )
        return summary.pairs
