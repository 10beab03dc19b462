"""What a checkpoint folder is recognised as, as text: layout, sizes, and an example of its prompt."""

from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from mpo_lightning.data.chat_template import PromptChoice
from mpo_lightning.data.encoding import PairEncoder
from mpo_lightning.data.records import IMAGE_MARK
from mpo_lightning.errors import InputError
from mpo_lightning.models.loading import config_of, family_of_folder

QUESTION, ANSWER = f"{IMAGE_MARK}\nHow many cats are there?", "Two."
LAYOUTS = {
    "opengvlab": "OpenGVLab's layout",
    "hf": "the -hf layout",
    "transformers": "this package's layout (transformers' classes, the prompt on record)",
}


def model_summary(folder: Path, choice: PromptChoice) -> str:
    """Returns what is known of a checkpoint folder, without reading its weights.

    Args:
        folder: checkpoint folder in any layout.
        choice: what the options say of the prompt.

    Raises:
        InputError: the folder is not a model, or its tokenizer cannot be loaded.
    """
    family, _ = family_of_folder(folder)
    config, tokenizer = config_of(str(folder)), family.tokenizer(folder)
    text, layout = config.get_text_config(), family.layout(folder)
    with torch.device("meta"):
        model = family.model_class(config)
    parts = {
        name: sum(parameter.numel() for module in modules for parameter in module.parameters())
        for name, modules in family.parts(model).items()
    }
    pictures = family.pictures(config)
    lines = [
        f"{folder}: {family.name} in {LAYOUTS.get(layout, layout)}",
        f"  {'language model':<16}{_language_model(text)}",
        f"  {'rope':<16}{_rope(text)}",
        f"  {'parameters':<16}{sum(parts.values()) / 1e6:,.2f} M: "
        + ", ".join(f"{name.replace('_', ' ')} {count / 1e6:,.2f}" for name, count in parts.items()),
        f"  {'images':<16}tiles of {pictures.tile_size} pixels, {pictures.tokens_per_tile} tokens each",
        f"  {'tokenizer':<16}{len(tokenizer):,} tokens",
    ]
    try:
        template, source = family.prompt(folder, config, tokenizer, choice)
    except InputError as error:
        return "\n".join([*lines, f"  {'prompt':<16}not certain: {str(error).removeprefix(f'{folder}: ')}"])
    message = template.system_message
    lines += [
        f"  {'template':<16}{template.name}, from {source}",
        f"  {'system message':<16}{repr(message) if message else 'none'}",
        f"  {'newline':<16}{'trained behind an answer' if template.trained_newline else 'not trained'}",
    ]
    encoder = PairEncoder(tokenizer, template, pictures)
    prompt, answer = encoder.prompt_ids(QUESTION, [1]), encoder.answer_ids(ANSWER)
    return "\n".join(
        [
            *lines,
            "  an example with an image of one tile, as the model reads it; what is trained stands in [[ ]]",
            *(f"    {line}" for line in _shown(tokenizer, prompt, answer)),
            f"    token ids: {_ids(prompt)} [[ {_ids(answer)} ]]",
        ]
    )


def _language_model(text: Any) -> str:
    experts = getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None)
    mixed = f", {text.num_experts_per_tok} of {experts} experts a token" if experts else ""
    return (
        f"{text.model_type}, {text.num_hidden_layers} layers of {text.hidden_size:,}, {text.num_attention_heads} heads "
        f"({text.num_key_value_heads} for keys and values), vocabulary {text.vocab_size:,}{mixed}"
    )


def _rope(text: Any) -> str:
    rope = text.rope_parameters
    kind = rope.get("rope_type", "default")
    longer = f", {kind} by {rope['factor']:g}" if "factor" in rope else "" if kind == "default" else f", {kind}"
    return f"theta {rope['rope_theta']:,.0f}, {text.max_position_embeddings:,} positions{longer}"


def _shown(tokenizer: Any, prompt: list[int], answer: list[int]) -> list[str]:
    """Returns the decoded example by lines, equal neighbours as one with their number."""
    runs = [(token, len(list(group))) for token, group in groupby(prompt)]
    pieces, plain = [], []
    for token, count in runs:
        if count < 4:
            plain += [token] * count
            continue
        pieces.append(tokenizer.decode(plain))
        pieces.append(f"{tokenizer.decode([token])}*{count}")
        plain = []
    told = "".join([*pieces, tokenizer.decode(plain)])
    return f"{told}[[{tokenizer.decode(answer)}]]".replace("\n", "\\n\n").split("\n")


def _ids(tokens: list[int]) -> str:
    runs = [(token, len(list(group))) for token, group in groupby(tokens)]
    return " ".join(f"{token}*{count}" if count > 3 else " ".join([str(token)] * count) for token, count in runs)
