"""Questions become prompts: kinds, languages, sources; what is not used is said, with its line."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from mpo_lightning.commands.prefs import fingerprint
from mpo_lightning.data.annotations.mmpr import AnnotationSet
from mpo_lightning.errors import InputError
from mpo_lightning.evals.benchmarks.prompts import with_reasoning
from mpo_lightning.prefs.overlap import picture_fingerprint, read_fingerprints, text_fingerprint
from mpo_lightning.prefs.prompt_files import language_of, read_prompt_files
from mpo_lightning.prefs.questions import PreparedQuestions, Rejection, prepare, says_its_answer, write_questions
from mpo_lightning.prefs.sources import Source, check_sources, source_of


def picture(path: Path, seed: int, size: tuple[int, int] = (160, 120)) -> None:
    """A drawing of its own."""
    image = Image.new("RGB", (160, 120), "white")
    draw = ImageDraw.Draw(image)
    for step in range(6):
        left, top = (37 * seed + 23 * step) % 120, (53 * seed + 31 * step) % 90
        draw.rectangle(
            (left, top, left + 30, top + 24), fill=((90 * step) % 256, (40 * seed) % 256, (70 * step + 50 * seed) % 256)
        )
    image.resize(size).save(path)


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    for number in range(3):
        picture(tmp_path / f"{number}.png", number)
    rows = [
        {
            "id": "mine",
            "image": "0.png",
            "question": "How many bars are taller than 3?\nAnswer the question using a single word or phrase.",
            "answer": 4,
        },
        {"image": "1.png", "question": "<image>\n图中有几个柱子？", "answer": "3", "choices": ["3", "4"]},
        {"image": ["0.png", "1.png"], "question": "<image>\n<image>\nWhich is larger?", "answer": "B"},
        {"image": "2.png", "question": "Describe the picture."},
        {
            "image": "0.png",
            "question": "How many bars are TALLER than 3? Answer the question using a single word or phrase",
            "answer": "4",
        },
        {"image": "2.png", "question": "How many? The answer is 5.", "answer": "5"},
        {"image": "nope.png", "question": "What?", "answer": "1"},
        {"image": "../0.png", "question": "What?", "answer": "1"},
        {"question": "What?", "answer": "1", "response": "x"},
        ["no object"],
    ]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def prepared(
    asked: Path, tmp_path: Path, sources: list[Source], **options: object
) -> tuple[dict, PreparedQuestions, list[dict]]:
    outputs = {"verified": tmp_path / "all.jsonl", "open": tmp_path / "all.jsonl"}
    rows = prepare([AnnotationSet("asked", asked.parent, asked)], sources, read_prompt_files(), 0, **options)  # type: ignore[arg-type]
    counts = write_questions(rows, outputs, tmp_path / "rejected.jsonl", False)  # type: ignore[arg-type]
    return (
        counts,
        PreparedQuestions(tmp_path / "all.jsonl"),
        [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()],
    )


def test_each_question_is_put_in_its_words_or_set_aside_with_the_reason(asked: Path, tmp_path: Path) -> None:
    counts, questions, rejected = prepared(asked, tmp_path, [Source(tiles=6)])
    assert dict(counts["asked"]) == {
        "verified": 3,
        "open": 1,
        "duplicate_question": 1,
        "leaked_answer": 1,
        "unusable": 4,
    }
    first = questions[0]
    # The hint for a short answer is gone; it contradicts the request for reasoning.
    assert first.question == "<image>\n" + with_reasoning("How many bars are taller than 3?")
    assert (
        first.max_tiles == 6
        and len(first.images) == 1
        and first.fields["source_id"] == "mine"
        and first.fields["answer"] == "4"
    )
    assert (
        "请" in questions[1].question
        and questions[1].question.endswith("图中有几个柱子？\nA. 3\nB. 4")
        and questions[1].fields["choices"] == ["3", "4"]
    )
    assert questions[2].question.startswith("<image>\n<image>\nYour task") and len(questions[2].images) == 2
    assert questions[3].question == "<image>\nDescribe the picture." and questions[3].fields["purpose"] == "open"
    assert [row["rule"] for row in rejected] == ["duplicate_question", "leaked_answer", *["unusable"] * 4]
    assert [row["where"].rpartition(":")[2] for row in rejected] == ["5", "6", "7", "8", "9", "10"]
    for words, row in zip(
        ("does not exist", "outside its root", "one that the pipeline adds", "not an object"), rejected[2:], strict=True
    ):
        assert words in row["reason"]


@pytest.mark.parametrize(
    ("question", "answer", "leaks"),
    [
        ("The answer is New York. Which city?", "New York", True),
        ("How many? The answer is 5.", "5", True),
        ("Answer: 2.5\nHow long is it?", "2.5", True),
        ("How many? The answer is 5 apples.", "5", True),
        ("这是什么？答案是苹果。", "苹果", True),
        ("Is it? Answer: yes or no.", "yes", False),
        ("Is it? Answer: yes/no", "yes", False),
        ("Which? The answer is one of A, B or C.", "A", False),
        ("Which? Your answer is a letter.", "A", False),
        (("Which is it? The answer is not New York."), "New York", False),
        ("Is it? Answer: yes if you see it.", "yes", False),
        ("What is 1 + 2?", "3", False),
    ],
)
def test_a_question_that_says_its_answer(question: str, answer: str, leaks: bool) -> None:
    assert (says_its_answer(question, answer) is not None) is leaks


def test_choices_are_put_to_the_model_and_tell_questions_apart(tmp_path: Path) -> None:
    short = "Answer with the option's letter from the given choices directly."
    rows = [
        {"question": f"Which colour?\n{short}", "answer": "A", "choices": ["red", "green"]},
        {"question": f"Which colour?\n{short}", "answer": "A", "choices": ["blue", "green"]},
        {"question": "Which colour: red or green?", "answer": "red", "choices": ["red", "green"]},
        {"question": "Which colour?", "answer": "red", "choices": "red"},
    ]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts, questions, rejected = prepared(path, tmp_path, [Source()])
    assert dict(counts["asked"]) == {"verified": 3, "unusable": 1} and "'choices' is 'red'" in rejected[0]["reason"]
    assert questions[0].question == with_reasoning("Which colour?\nA. red\nB. green")
    assert questions[1].question.endswith("A. blue\nB. green") and questions[2].question == with_reasoning(
        rows[2]["question"]
    )
    _, questions, _ = prepared(path, tmp_path, [Source(kinds=["as_asked"])])
    assert questions[0].question == f"Which colour?\nA. red\nB. green\n{short}"


def test_one_picture_has_one_name_and_a_source_without_a_limit_takes_the_engines(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    rows = [{"image": name, "question": "How many?", "answer": "4"} for name in ("a.png", "./a.png")]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts, questions, _ = prepared(path, tmp_path, [Source()], max_tiles=3)
    assert dict(counts["asked"]) == {"verified": 1, "duplicate_question": 1} and questions[0].max_tiles == 3
    _, questions, _ = prepared(path, tmp_path, [Source(tiles=5)], max_tiles=3)
    assert questions[0].max_tiles == 5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"question": "What?</s>", "answer": "1"}, "the question contains the special token </s>"),
        ({"question": "What?", "answer": "<box>1</box>"}, ("the answer contains the special token <box>")),
        ({"question": "What?", "answer": "a<|im_end|>"}, "the answer contains the special token <|im_end|>"),
        ({"question": "What?", "answer": "<image>"}, "special token <image>"),
    ],
)
def test_special_tokens_in_questions_and_answers_are_refused(tmp_path: Path, fields: dict, words: str) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text(json.dumps(fields) + "\n" + json.dumps({"question": "Why?"}) + "\n")
    _, _, rejected = prepared(path, tmp_path, [Source()])
    assert words in rejected[0]["reason"]


def test_strict_stops_at_the_line(asked: Path, tmp_path: Path) -> None:
    rows = prepare([AnnotationSet("asked", asked.parent, asked)], [Source()], read_prompt_files(), 0)
    with pytest.raises(InputError, match=r"asked.jsonl:7: the image 'nope.png' does not exist"):
        write_questions(rows, {"verified": tmp_path / "v", "open": tmp_path / "o"}, tmp_path / "r", True)
    assert not (tmp_path / "v").exists()


def test_sources_choose_tiles_kinds_and_what_is_checked(asked: Path, tmp_path: Path) -> None:
    general = Source(["asked*"], 6, correctness=False)
    counts, questions, _ = prepared(asked, tmp_path, [general])
    assert (
        counts["asked"]["open"] == 4
        and not counts["asked"]["verified"]
        and questions[0].question.startswith("<image>\nHow many")
    )
    kinds = [Source(kinds=["plain", "visual", "background", "grounded"])]
    _, questions, _ = prepared(asked, tmp_path, kinds)
    assert {questions.row(number)["kind"] for number in range(3)} <= {"plain", "visual", "background", "grounded"}
    with pytest.raises(InputError, match="no source matches the data set 'vqa'"):
        source_of("vqa", [general])
    with pytest.raises(InputError, match="the kind of prompt 'poem'; known are as_asked, background"):
        check_sources([Source(kinds=["poem"])], read_prompt_files())


def test_prompts_are_files_that_a_user_edits(tmp_path: Path) -> None:
    texts = read_prompt_files()
    assert texts.kinds == ["as_asked", "background", "grounded", "plain", "visual"]
    assert texts.ask("How many?", "plain") == with_reasoning("How many?")
    for kind in texts.kinds[1:]:
        for question in ("How many?", "有几个？"):
            assert "Final answer: .." in texts.ask(question, kind) and texts.ask(question, kind).endswith(question)
    (tmp_path / "plain.en.txt").write_text("Think. {question}\n")
    (tmp_path / "poem.en.txt").write_text("Rhyme. {question}")
    own = read_prompt_files(tmp_path)
    assert (
        own.ask("How many?", "plain") == "Think. How many?"
        and own.ask("有几个？", "poem") == "Rhyme. 有几个？"
        and own.version != texts.version
    )
    (tmp_path / "bad.txt").write_text("no place")
    with pytest.raises(InputError, match=r"bad.txt: a prompt file must be named KIND.en.txt"):
        read_prompt_files(tmp_path)
    assert language_of("求 x 的值") == "zh" and language_of("solve for x") == "en"


def test_questions_of_a_benchmark_are_found_by_words_and_by_pictures(asked: Path, tmp_path: Path) -> None:
    """A copy of another size and format is the same picture; another drawing is not."""
    (tmp_path / "bench").mkdir()
    picture(tmp_path / "bench" / "x.jpg", 2, (300, 240))
    rows = [
        {"id": 1, "question": "how many bars are taller than 3", "image": None},
        {"id": 2, "question": "Other words?", "image": "x.jpg"},
    ]
    (tmp_path / "bench" / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fingerprint(str(tmp_path / "f.jsonl"), questions=str(tmp_path / "bench" / "b.jsonl"), name="Bench")
    overlap = read_fingerprints([tmp_path / "f.jsonl"])
    assert (
        overlap("How many bars are taller than 3?", []) == "Bench"
        and overlap("What else?", [tmp_path / "2.png"]) == "Bench"
    )
    assert overlap("What else?", [tmp_path / "0.png", tmp_path / "1.png"]) is None
    counts, _, rejected = prepared(asked, tmp_path, [Source()], seen_in_evals=overlap)
    assert counts["asked"]["eval_overlap"] == 1 and [
        row["where"].rpartition(":")[2] for row in rejected if row["rule"] == "eval_overlap"
    ] == ["4"]
    with pytest.raises(InputError, match=r"asked.jsonl:1: not a fingerprint"):
        read_fingerprints([asked])


def test_thin_drawings_are_the_same_only_together_with_the_words(root: Path, tmp_path: Path) -> None:
    """Two triangles of the sample, whose few bits are the same."""
    diagrams = root / "examples/mmpr_sample/images/diagrams"
    (tmp_path / "b.jsonl").write_text(json.dumps({"id": 1, "question": "What angle?", "image": "triangle0.png"}) + "\n")
    fingerprint(str(tmp_path / "f.jsonl"), questions=str(tmp_path / "b.jsonl"), name="Bench", images=str(diagrams))
    overlap = read_fingerprints([tmp_path / "f.jsonl"])
    assert overlap("How long is it?", [diagrams / "triangle1.png"]) is None
    assert overlap("What angle?", [diagrams / "triangle0.png"]) == "Bench"
    assert overlap("What angle?", [diagrams / "bars0.png"]) is None


def test_fingerprints_ignore_case_and_flat_pictures(tmp_path: Path) -> None:
    assert text_fingerprint("<image>\nHow  many?") == text_fingerprint("how MANY") != text_fingerprint("how many 3")
    Image.new("RGB", (50, 50), "white").save(tmp_path / "flat.png")
    assert picture_fingerprint((tmp_path / "flat.png").read_bytes()) is None


def test_a_rejection_names_its_source() -> None:
    assert Rejection("s", "f:1", "rule", "why").source == "s"
