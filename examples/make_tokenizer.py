"""Trains the small tokenizer that ships with the package, on the texts of the sample set.

    .venv/bin/python examples/make_tokenizer.py examples/mmpr_sample src/mpo_lightning/data/tokenizer

A byte-level BPE, so it can spell any text; its marks are those of InternVL2 with the Hermes-2 template.
"""

import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mpo_lightning.files.strict_json import parse_json
from mpo_lightning.models.internvl.templates import HERMES, INTERNLM2_CHAT, INTERNVL2_5, PHI3_CHAT

MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
IMAGE_MARKS = ["<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>"]
WORDS = r"\p{L}+| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def main(sample: Path, output: Path) -> None:
    templates = (INTERNLM2_CHAT, HERMES, INTERNVL2_5, PHI3_CHAT)
    texts = [template.system for template in templates] + ["system\nuser\nassistant\n"]
    for annotation in sorted((sample / "annotations").glob("*.jsonl")):
        for line in annotation.read_text(encoding="utf-8").splitlines():
            fields = parse_json(line)
            texts += [fields["question"], fields["chosen"], fields["rejected"]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=1024, initial_alphabet=alphabet, show_progress=False)
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[*MARKS[1:2], *IMAGE_MARKS],
    )
    wrapped.save_pretrained(output)
    print(f"{len(wrapped)} tokens in {output}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
