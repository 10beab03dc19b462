"""DropoutNTP: the rejected side is a good response cut in half, with its second half written without the image.

It is for questions whose answers no rule can check. Text that is written without the image is fluent but made up, so
such pairs teach the model to look. The cut is on a token boundary between words; its white space belongs to the second
half on both sides. The reference code joins stripped texts, so a missing space gives the rejected side away.

Source: arXiv 2411.10442, section 3.1; ratio 0.5, ablation 0.25 and 0.75 in table 9; InternVL
`mmpr_data_pipeline_dropout_ntp.py`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mpo_lightning.answers import check
from mpo_lightning.answers.question import question_of
from mpo_lightning.data.annotations.mmpr import parse_line, read_lines, read_meta
from mpo_lightning.data.shards.jobs import unique_names
from mpo_lightning.data.shards.reference_cache import tokenizer_fingerprint
from mpo_lightning.data.shards.sample import packaged_tokenizer
from mpo_lightning.data.words import difference, plain_words, word_counts
from mpo_lightning.errors import BadRecord, InputError
from mpo_lightning.inference.embedded import EmbeddedEngine
from mpo_lightning.inference.engine import Engine
from mpo_lightning.models.loading import load_tokenizer
from mpo_lightning.prefs.annotations import AnnotationWriter, Place, dropout_suffix, picture_field, system_field
from mpo_lightning.prefs.filters import first_failed, no_response
from mpo_lightning.prefs.options import DropoutOptions

Row = dict[str, Any]
Offsets = Callable[[str], Sequence[tuple[int, int]]]
"""Returns where each token of a text starts and stops, in characters."""


def cut_place(text: str, ratio: float, offsets: Offsets) -> int:
    """Returns the character where the second half begins: the token boundary between words nearest to the ratio.

    White space at the cut belongs to the second half. Chinese has no spaces, so any token boundary there will do.

    Args:
        text: the response.
        ratio: share of the response's tokens before the cut.
        offsets: places of a text's tokens, by the model's tokenizer.
    """
    if ratio == 0:
        return 0
    spans = offsets(text)
    wanted = ratio * len(spans)
    best, best_distance = 0, float(len(spans))
    for number, (start, _) in enumerate(spans[1:], start=1):
        place = start
        while place and text[place - 1].isspace():
            place -= 1
        if place > 0 and abs(number - wanted) < best_distance and _between_words(text, place):
            best, best_distance = place, abs(number - wanted)
    return best


def _between_words(text: str, place: int) -> bool:
    left, right = text[place - 1], text[place : place + 1]
    whole = left.isalnum() and right.isalnum() and left.isascii() and right.isascii()
    return bool(text[place:].strip()) and not whole and right != "\u200d"


def begun_rows(
    rows: Iterator[Row], options: DropoutOptions, offsets: Offsets, counts: dict[str, Counter[str]]
) -> Iterator[Row]:
    """Yields questions with the first half of a good response (`begun`), for the model to continue.

    Args:
        rows: prepared questions with a `chosen` response.
        options: how responses are cut.
        offsets: places of a text's tokens, by the model's tokenizer.
        counts: counts by source, to which skipped questions are added.
    """
    for row in rows:
        numbers = counts.setdefault(row["source"], Counter())
        numbers["chosen"] += 1
        if not row["image"]:
            numbers["without a picture"] += 1
            continue
        if (failed := first_failed(row | {"response": row["chosen"], "finished": True}, options.filters)) is not None:
            numbers[failed] += 1
            continue
        place = cut_place(row["chosen"], options.ratio, offsets)
        if place == 0 and options.ratio > 0:
            numbers["too short to cut"] += 1
            continue
        yield row | {"begun": row["chosen"][:place], "with_image": options.with_image}


def pair_rows(answers: Path, output: Path, options: DropoutOptions, exact: bool) -> dict[str, Counter[str]]:
    """Writes the annotations and returns counts by source.

    Args:
        answers: file of begun questions, with the model's continuations as `response`.
        output: folder to write to.
        options: how the second halves were written.
        exact: whether the engine keeps the white space at the cut (`Engine.exact_seams`).
    """
    counts: dict[str, Counter[str]] = {}
    suffix = dropout_suffix(options.ratio, options.with_image)
    with AnnotationWriter(output) as writer, answers.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            numbers = counts.setdefault(row["source"], Counter())
            numbers["tokens"] += row.get("response_tokens") or 0
            pair = paired(row, options, exact, numbers)
            if pair is not None:
                numbers["pairs"] += 1
                place = Place(row["source"], row["root"], suffix, row.get("max_tiles"))
                writer.write(place, pair)
    return counts


def paired(row: Row, options: DropoutOptions, exact: bool, numbers: Counter[str]) -> Row | None:
    """Returns the pair of a question, or None after counting the reason.

    Args:
        row: a begun question with its `response`.
        options: how the second half was written.
        exact: whether the engine keeps the white space at the cut.
        numbers: counts of reasons, updated here.
    """
    chosen, begun = row["chosen"], row["begun"]
    answered = row | {"response": row.get("response") or ""}
    if (failed := no_response(row) or first_failed(answered, options.filters)) is not None:
        numbers[failed] += 1
        return None
    second, restored = (
        (answered["response"], False) if exact else joined(begun, chosen[len(begun) :], answered["response"])
    )
    rejected = begun + second
    numbers["boundary restored"] += restored
    if plain_words(rejected) == plain_words(chosen):
        numbers["identical"] += 1
        return None
    if str(row.get("answer") or "").strip() and check(rejected, question_of(row)).correct:
        numbers["right all the same"] += 1
        return None
    names = ("sample", "seed", "response_tokens", "finished")
    return {
        "id": f"{row['id']}-ntp",
        **picture_field(row["image"]),
        **system_field(row),
        "question": row["prompt"],
        "chosen": chosen,
        "rejected": rejected,
        "kind": "dropout_ntp",
        "prompt_kind": row.get("kind"),
        "chosen_meta": row.get("chosen_meta"),
        "rejected_meta": {name: row[name] for name in names if row.get(name) is not None}
        | {
            "ratio": options.ratio,
            "with_image": options.with_image,
            "kept_characters": len(begun),
            "boundary_restored": restored,
            "difference": round(difference(word_counts(chosen), word_counts(rejected)), 3),
        },
    }


def joined(begun: str, rest: str, continuation: str) -> tuple[str, bool]:
    """Returns the rejected side's second half, and whether white space was restored that the server had dropped.

    Args:
        begun: the first half.
        rest: second half of the chosen response.
        continuation: second half that the model wrote.
    """
    space = rest[: len(rest) - len(rest.lstrip())]
    lost = bool(begun and space) and not continuation[:1].isspace() and continuation[:1].isalnum()
    return (space + continuation if lost else continuation), lost


def chosen_rows(meta: Path) -> Iterator[dict[str, Any]]:
    """Yields the chosen sides of annotations as questions, one for each question and image."""
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
                "system_prompt": parsed.system,
                "prompt": parsed.question,
                "max_tiles": entry.max_dynamic_patch,
                "chosen": parsed.chosen,
                "chosen_meta": parsed.extra.get("chosen_meta"),
                "answer": parsed.extra.get("answer_gt"),
            }


def token_offsets(engine: Engine, tokenizer: str | None) -> tuple[Offsets, str]:
    """Returns the function that gives a text's token places for cutting responses, and its tokenizer's name.

    Args:
        engine: the engine whose tokenizer is the default.
        tokenizer: folder of another tokenizer.
    """
    if tokenizer is None and isinstance(engine, EmbeddedEngine):
        encode: Any = engine.processor.tokenizer
    elif tokenizer is not None:
        encode = load_tokenizer(tokenizer)
    else:
        packaged = packaged_tokenizer()
        return lambda text: packaged.encode(text, add_special_tokens=False).offsets, "packaged"
    return (
        lambda text: encode(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"],
        tokenizer_fingerprint(encode),
    )
