"""The tokenizer built from pieces against the SentencePiece library itself."""

import io
import random
from pathlib import Path

import pytest

from mpo_lightning.errors import InputError
from mpo_lightning.models.internvl.opengvlab.sentencepiece import read_piece_model
from mpo_lightning.models.internvl.opengvlab.tokenizer import build_tokenizer

sentencepiece = pytest.importorskip("sentencepiece")
MARK = "<|user|>"


def trained(root: Path, path: Path, **options: object) -> "sentencepiece.SentencePieceProcessor":
    """A model of this project's own documents, of the kind that Llama and InternLM2 have."""
    lines = [
        line for page in sorted((root / "docs").glob("*.md")) for line in page.read_text().splitlines() if line.strip()
    ]
    settings = {
        "vocab_size": 900,
        "model_type": "bpe",
        "byte_fallback": True,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
        "user_defined_symbols": [MARK],
        "minloglevel": 2,
    } | options
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, **settings)
    path.write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def texts(root: Path) -> list[str]:
    rng, page = random.Random(0), (root / "README.md").read_text()
    cuts = [page[start : start + rng.randrange(1, 80)] for start in rng.sample(range(len(page)), 800)]
    return cuts + ["".join(rng.choice("ab é你😀 \n\t01#<|") for _ in range(rng.randrange(1, 20))) for _ in range(400)]


@pytest.mark.parametrize("dummy", [True, False])
def test_ids_equal_the_librarys_on_any_text(root: Path, tmp_path: Path, dummy: bool) -> None:
    path = tmp_path / "tokenizer.model"
    library = trained(root, path, add_dummy_prefix=dummy)
    model = read_piece_model(path)
    assert model.prefix is dummy and len(model.pieces) == 900
    ours = build_tokenizer(model, {}, "each" if dummy else "none", "<s>", None, path)
    for text in texts(root):
        assert ours.encode(text, add_special_tokens=False).ids == library.encode(text), text
        assert ours.encode(text).ids == [1, *library.encode(text)]
        assert ours.decode(library.encode(text)) == library.decode(library.encode(text))


def test_a_prefix_in_front_of_the_text_alone(root: Path, tmp_path: Path) -> None:
    """Llama's class with legacy false: a space before the text, none behind a special token."""
    path = tmp_path / "tokenizer.model"
    with_prefix = trained(root, path, add_dummy_prefix=True)
    definition = pytest.importorskip("sentencepiece.sentencepiece_model_pb2").ModelProto.FromString(path.read_bytes())
    definition.normalizer_spec.add_dummy_prefix = False
    without = sentencepiece.SentencePieceProcessor(model_proto=definition.SerializeToString())
    mark = with_prefix.piece_to_id(MARK)
    ours = build_tokenizer(read_piece_model(path), {}, "first", None, None, path)
    for text in ("Hello world", "a", "the step of a pair"):
        assert ours.encode(text).ids == with_prefix.encode(text)
        assert ours.encode(f"{MARK}{text}").ids == [mark, *without.encode(text)]
        assert ours.encode(f"{text}{MARK}{text}").ids == [*with_prefix.encode(text), mark, *without.encode(text)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_type": "unigram"}, "not a SentencePiece model of byte pairs"),
        ({"normalization_rule_name": "nmt_nfkc"}, "it normalizes text"),
    ],
)
def test_models_that_do_something_else_are_refused(root: Path, tmp_path: Path, options: dict, words: str) -> None:
    trained(root, tmp_path / "tokenizer.model", **options)
    with pytest.raises(InputError, match=words):
        read_piece_model(tmp_path / "tokenizer.model")
