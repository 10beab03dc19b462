"""Samples several responses to each prepared question through an engine, and records how.

OUT.jsonl            one line a response: the question's fields, `sample`, `response`, `response_tokens`, `finished`
OUT.jsonl.run.json   engine, model, sampling, version of the prompts
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpo_lightning.data.prompts import Prompts, Repeated
from mpo_lightning.files.digests import file_digest
from mpo_lightning.files.whole import write_json
from mpo_lightning.inference.engine import Engine, Work
from mpo_lightning.models.sampling import Sampling
from mpo_lightning.prefs.questions import PreparedQuestions
from mpo_lightning.runs.rank import is_first


def record_of(output: Path) -> Path:
    """Returns the path of the record of how responses were made."""
    return output.with_name(f"{output.name}.run.json")


def draw(
    questions: Path,
    output: Path,
    engine: Engine,
    samples: int,
    sampling: Sampling | None,
    max_new_tokens: int,
) -> tuple[int, int]:
    """Samples responses to prepared questions. Returns the number of lines, and of those without a response.

    Args:
        questions: file of prepared questions.
        output: file of responses to write.
        engine: the engine that writes responses.
        samples: number of responses to each question.
        sampling: how responses are sampled; None is greedy.
        max_new_tokens: most tokens of a response.

    Raises:
        InputError: the engine cannot answer (`Engine.answer`).
    """
    prompts: Prompts = PreparedQuestions(questions)
    digest = file_digest(questions)
    if samples > 1:
        prompts = Repeated(prompts, samples)
    work = Work(prompts, f"{digest} x {samples}", max_new_tokens, sampling)
    if is_first() and not output.exists():
        write_json(record_of(output), run_record(engine, digest, samples, sampling, max_new_tokens=max_new_tokens))
    return engine.answer(work, output)


def run_record(
    engine: Engine, questions: str, samples: int, sampling: Sampling | None, max_new_tokens: int
) -> dict[str, Any]:
    """Returns the record of how responses were made."""
    return {
        "engine": engine.description(),
        "questions": questions,
        "samples": samples,
        "max_new_tokens": max_new_tokens,
        "sampling": asdict(sampling) if sampling else None,
    }
