"""`mpo model ...`: converts, exports, merges, tries and plans models."""

import json
from pathlib import Path
from typing import Any, Literal

from mpo_lightning.commands.display.progress import progress_bar
from mpo_lightning.errors import InputError

Stored = Literal["auto", "float32", "bfloat16", "float16"]


def tiny(output: str, seed: int = 0) -> None:
    """Writes a tiny InternVL2 with random weights: the real architecture, 1.2 M parameters, with its tokenizer.

    Args:
        output: a new checkpoint folder.
        seed: seed of the weights.
    """
    from mpo_lightning.models.internvl.tiny import write_tiny_model

    print(f"{output}: {write_tiny_model(Path(output), seed):,} parameters")


def convert(
    source: str,
    output: str,
    to: Literal["transformers", "opengvlab", "hf"] = "transformers",
    like: str | None = None,
    template: str = "auto",
    system_message: str = "auto",
    dynamic_rope: bool = True,
) -> None:
    """Rewrites a checkpoint in another layout: the same numbers under other names, every bit kept.

    The layouts: 'opengvlab' is that of the OpenGVLab/InternVL* repositories, for their own code; 'hf' is that of the
    OpenGVLab/InternVL*-hf repositories, for transformers from 4.52 on and servers; 'transformers' is what this package
    trains and exports: as 'hf', with the prompt on record. It runs no remote code and needs memory for one shard of 2
    GB. It converts all language models of InternVL2, 2.5, 3 and 3.5 and both vision towers. Other verbs take a folder
    in any layout.

    Args:
        source: the checkpoint folder.
        output: a new folder; it appears when it is complete.
        to: the layout to write.
        like: for opengvlab, an original folder of the same model whose Python and tokenizer files are copied; default
            SOURCE/original, which a conversion leaves.
        template: chat template to put on record; auto takes the one that the folder's files say.
        system_message: system message to put on record: none, default (the template's own), thinking, or a text.
        dynamic_rope: keep a dynamic rope, which stretches sequences longer than the model's (32,768 tokens for
            InternVL2.5 and 3); false writes one without, as the code that trained those with Qwen2.5.
    """
    from mpo_lightning.data.chat_template import PromptChoice
    from mpo_lightning.models.loading import family_of_folder

    folder, target = Path(source), Path(output)
    if to != "opengvlab" and like is not None:
        raise InputError("--like is for --to opengvlab")
    if to == "opengvlab" and not dynamic_rope:
        raise InputError("--dynamic_rope false is for the layouts transformers and hf; OpenGVLab's code decides itself")
    family, _ = family_of_folder(folder)
    if family.layout(folder) == to and dynamic_rope:
        raise InputError(f"{source}: is in the {to} layout already")
    choice = PromptChoice(template, system_message)
    with progress_bar("weights", unit="bytes") as advance:
        numbers, certain = family.convert(
            folder,
            target,
            to,
            like=Path(like) if like else None,
            choice=choice,
            advance=advance,
            dynamic_rope=dynamic_rope,
        )
    print(f"{output}: {numbers:,} parameters in the {to} layout")
    if not certain:
        print("  its files do not settle the prompt; 'mpo model show' says what they say, and a start will ask")
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    missing = {
        name
        for names in (config.get("auto_map") or {}).values()
        for name in [f"{str(names).rpartition('--')[2].split('.')[0]}.py"]
        if not (target / name).is_file()
    }
    if to == "opengvlab" and (missing or "auto_map" not in config):
        print("  its Python files are missing; for tools that run them, give --like ORIGINAL with a complete download")


def show(folder: str, template: str = "auto", system_message: str = "auto") -> None:
    """Prints what a checkpoint folder is recognised as: layout, language model, sizes, and its prompt with an example.
    For example: mpo model show MODEL

    Args:
        folder: checkpoint folder in any layout; its weights are not read.
        template: chat template of the example; auto takes the one that the checkpoint's files say.
        system_message: system message of the example; auto takes the one that the checkpoint's files say.
    """
    from mpo_lightning.commands.display.model_summary import model_summary
    from mpo_lightning.data.chat_template import PromptChoice

    print(model_summary(Path(folder), PromptChoice(template, system_message)))


def chat(
    folder: str,
    question: str,
    image: list[str] | str | None = None,
    max_new_tokens: int = 512,
    max_tiles: int = 12,
    template: str = "auto",
    system_message: str = "auto",
    device: str = "auto",
) -> None:
    """Prints the response to one question about images as it is written: the quickest test of a checkpoint. For
    example: mpo model chat MODEL "What is in the image?" --image photo.jpg

    Args:
        folder: checkpoint folder in either layout.
        question: the user's turn; marks <image> say where images go, else they come first.
        image: path of an image; `--image+ P` adds another.
        max_new_tokens: most tokens of the response.
        max_tiles: most tiles of the images, thumbnails not counted.
        template: chat template; auto takes the one that the checkpoint's files say.
        system_message: auto takes the one that the checkpoint's files say; none, default (the template's own), thinking
            (InternVL3.5), or the text itself.
        device: device such as cpu or cuda:1; auto takes a GPU if there is one, in bf16.
    """
    import torch
    from transformers import TextStreamer

    from mpo_lightning.data.prompts import Prompt
    from mpo_lightning.data.records import IMAGE_MARK, checked_question
    from mpo_lightning.errors import BadRecord
    from mpo_lightning.models.generation import encode_prompt, generate, pad_prompts
    from mpo_lightning.models.loading import load_model, load_processor

    if min(max_new_tokens, max_tiles) < 1:
        raise InputError("--max_new_tokens and --max_tiles must be at least 1")
    pictures = tuple(Path(path).read_bytes() for path in ([image] if isinstance(image, str) else image or []))
    if IMAGE_MARK not in question:
        question = f"{IMAGE_MARK}\n" * len(pictures) + question
    processor = load_processor(folder, template, system_message)
    try:
        prompt = Prompt(checked_question(question, len(pictures)), pictures)
        encoded = encode_prompt(processor.encoder(max_tiles, 10**9, "set_aside"), prompt)
    except BadRecord as error:
        raise InputError(f"the question cannot be asked: {error}") from None
    try:
        place = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device} cannot be used here ({str(error).splitlines()[0]})") from None
    model: Any = load_model(folder, torch.bfloat16 if place.type == "cuda" else torch.float32)
    model.to(place)
    streamer = TextStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    (answer,) = generate(model, processor, pad_prompts([encoded]).to(place), max_new_tokens, streamer=streamer)
    if not answer.finished:
        print(f"  (cut at --max_new_tokens {max_new_tokens})")


def _dtype(name: Stored) -> Any:
    """Returns a dtype of torch by its name; None for auto."""
    import torch

    return None if name == "auto" else getattr(torch, name)


def merge(
    model: str,
    adapter: str,
    output: str,
    dtype: Stored = "auto",
    template: str = "auto",
    system_message: str = "auto",
) -> None:
    """Adds a LoRA adapter, or another one that changes weights, to its model and writes a checkpoint folder.

    `mpo fit` with model.lora merges its adapter at the end; this is for adapters from elsewhere, in peft's layout.

    Args:
        model: checkpoint folder that the adapter was trained on, in either layout.
        adapter: folder with adapter_config.json and adapter_model.safetensors.
        output: a new checkpoint folder.
        dtype: dtype of the written weights; auto keeps the model's.
        template: chat template to put on record; auto takes the one that the model's files say.
        system_message: system message to put on record: none, default, thinking, or a text.
    """
    from mpo_lightning.models.lora import merge_adapter

    prompt = {"template": template, "system_message": system_message}
    changed = merge_adapter(model, Path(adapter), Path(output), _dtype(dtype), **prompt)
    print(f"{output}: {changed} weights changed by the adapter")


def export(checkpoint: str, output: str, policy: str | None = None, dtype: Stored = "auto") -> None:
    """Writes a training checkpoint's policy as a folder that plain transformers loads, with adapters merged.
    For example: mpo model export CKPT OUT

    Args:
        checkpoint: a .ckpt of `mpo fit`: a file, or the folder of a sharded run.
        output: a new folder.
        policy: checkpoint folder that training started from; default the one that the checkpoint names.
        dtype: dtype of the written weights; auto keeps that of the folder that training started from.
    """
    from mpo_lightning.training.checkpoint_export import export_checkpoint

    step = export_checkpoint(Path(checkpoint), Path(output), policy, _dtype(dtype))
    print(f"{output}: the policy after step {step}")


def plan(
    model: str,
    devices: int = 1,
    strategy: Literal["single", "ddp", "fsdp2"] = "ddp",
    reference: Literal["model", "cache", "adapter"] = "model",
    freeze: list[Literal["vision_tower", "projector", "language_model"]] | None = None,
    lora_rank: int | None = None,
    lora_experts: bool = False,
    gradient_checkpointing: bool = True,
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed",
    pairs: int = 1,
    tiles: int = 13,
    prompt: int = 80,
    chosen: int = 300,
    rejected: int = 350,
    answers: int = 2,
    keep_logits_gib: float = 1.0,
) -> None:
    """Prints the memory of a training step on each device, and the cards that it fits on. Needs no device or weights.
    For example: mpo model plan --model 8b --devices 64 --reference cache

    Args:
        model: a released size such as internvl3_5-8b (a size alone is InternVL2's), or a checkpoint folder.
        devices: number of devices.
        strategy: ddp keeps whole models on each device, fsdp2 shards them over all.
        reference: model is a frozen copy beside the policy; cache and adapter need no copy.
        freeze: parts that are not trained.
        lora_rank: train adapters of this rank instead of the weights; goes with --reference adapter or cache.
        lora_experts: adapters for every expert of a mixture too.
        gradient_checkpointing: recompute activations in the backward pass.
        precision: precision of the arithmetic; weights are float32.
        pairs: pairs in a row, or questions (data.micro_batch_size).
        tiles: tiles of each with the thumbnail; 13 is the most with data.max_tiles 12.
        prompt: text tokens of the prompt.
        chosen: tokens of the chosen response.
        rejected: tokens of the rejected response.
        answers: different responses to a question in a row: 2 to a single pair, 8 to a usual question of MMPR with
            fifteen pairs (data.pairs_per_question).
        keep_logits_gib: largest logits in GiB that are kept for the backward pass (model.keep_logits_gib).
    """
    from dataclasses import fields

    from mpo_lightning.models.loading import config_of
    from mpo_lightning.models.lora import Lora
    from mpo_lightning.models.memory import Row, plan_memory

    if min(devices, pairs, prompt, chosen, rejected, answers - 1) < 1 or tiles < 0:
        raise InputError("--answers must be at least 2, --tiles at least 0, and the other numbers at least 1")
    if pairs * (prompt + (chosen + rejected) * answers // 2) > 2**17 or keep_logits_gib < 0:
        raise InputError(f"a row may have at most {2**17:,} text tokens here, and --keep_logits_gib must be at least 0")
    if strategy == "single" and devices > 1:
        raise InputError("--strategy single is for one device; use ddp or fsdp2")
    if reference == "adapter" and lora_rank is None:
        raise InputError("--reference adapter needs --lora_rank")
    lora = Lora(rank=lora_rank, dropout=0.0, experts=lora_experts) if lora_rank is not None else None
    found = plan_memory(
        config_of(model),
        Row(pairs, tiles, prompt, chosen, rejected=rejected, answers=answers),
        reference=reference,
        freeze=freeze or (),
        lora=lora,
        gradient_checkpointing=gradient_checkpointing,
        precision=precision,
        keep_logits_gib=keep_logits_gib,
        strategy=strategy,
        devices=devices,
    )
    print(
        f"{model}: {pairs} pair{'s' * (pairs > 1)} of {tiles} tiles a row, on {devices} device{'s' * (devices > 1)} "
        f"({strategy})"
    )
    for item in fields(found):
        if getattr(found, item.name):
            print(f"  {item.name:<12}{getattr(found, item.name) / 1e9:>9.2f} GB")
    print(
        f"  {'together':<12}{found.total / 1e9:>9.2f} GB a device, at the peak of a step; allow a tenth more for the "
        "allocator"
    )
    cards = [card for card in CARDS_GB if found.total * 1.1 < card * 1e9]
    print(
        f"  fits on cards of {', '.join(map(str, cards))} GB"
        if cards
        else f"  fits on none of {', '.join(map(str, CARDS_GB))} GB"
    )


CARDS_GB = (24, 40, 48, 80, 141)
"""Memory of common cards up to an H200, in GB."""
