"""Low-rank adapters (LoRA) on the language model, by peft; the model without them is its own reference.

All other weights are frozen, so with the adapters off the policy is the initial model. No second model is needed.
Source: Hu et al. 2021, arXiv 2106.09685; the options' defaults are those of InternVL's fine-tuning scripts.
"""

import hashlib
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mpo_lightning.errors import InputError
from mpo_lightning.files.whole import check_output, whole_folder
from mpo_lightning.models.export import save_folder
from mpo_lightning.models.family import Family, family_of
from mpo_lightning.models.internals import expert_parameter
from mpo_lightning.models.loading import family_of_folder, load_model, load_processor, stored_dtype

ADAPTER = "default"
WRAPPED = re.compile(r"(\.base_layer)+\.")
"""What adapters add to the name of the weight that they change."""


@dataclass(frozen=True)
class Lora:
    """Options of the LoRA adapters.

    Attributes:
        rank: rank of the low-rank update.
        alpha: the update is scaled by alpha / rank; None is twice the rank.
        dropout: dropout probability on the adapter's input.
        experts: whether a mixture of experts gets adapters too, one for each expert; otherwise its experts and router
            are frozen and attention alone is adapted. Needs a dropout of 0.
    """

    rank: int = 16
    alpha: int | None = None
    dropout: float = 0.05
    experts: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise InputError(
                f"lora needs a rank of at least 1 and a dropout of at least 0 and below 1, got {self.rank} and "
                f"{self.dropout}"
            )
        if self.experts and self.dropout:
            raise InputError("lora.experts needs lora.dropout 0; an expert's weights take no dropout")


def add_adapters(model: Any, options: Lora) -> None:
    """Adds zero-initialized adapters to every projection of the language model and freezes all other weights.

    Raises:
        InputError: peft is not installed, or experts are asked for and the model has none.
    """
    if options.experts and not any(".experts." in name for name, _ in model.named_parameters()):
        raise InputError("lora.experts is for a mixture of experts, and this language model is none; leave it out")
    from_peft("model.lora").inject_adapter_in_model(_config(options, family_of(model)), model, adapter_name=ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def from_peft(what: str) -> Any:
    """Imports peft, an optional dependency.

    Args:
        what: the option or command that needs it, for the message.

    Raises:
        InputError: peft is not installed.
    """
    try:
        return importlib.import_module("peft")
    except ImportError:
        raise InputError(f"{what} needs peft; pip install 'mpo-lightning[peft]'") from None


def _config(options: Lora, family: Family) -> Any:
    alpha = 2 * options.rank if options.alpha is None else options.alpha
    return from_peft("model.lora").LoraConfig(
        r=options.rank,
        lora_alpha=alpha,
        lora_dropout=options.dropout,
        target_modules=family.lora_targets,
        target_parameters=list(family.lora_experts) if options.experts else None,
        bias="none",
    )


@torch.no_grad()
def merged_weights(model: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights with each adapter merged, under the names they have without adapters.

    Args:
        model: model with the adapters, for their scales.
        weights: gathered state of the model.
    """
    from peft.tuners.lora import LoraLayer

    merged = {WRAPPED.sub(".", name): value for name, value in weights.items() if ".lora_" not in name}
    for name, module in model.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        up, down = (weights[f"{name}.lora_{part}.{ADAPTER}.weight"] for part in ("B", "A"))
        of_experts = expert_parameter(module)
        target = WRAPPED.sub(".", f"{name}.{of_experts.name if of_experts else 'weight'}")
        if of_experts:
            count = len(merged[target])
            up, down = up.reshape(len(up), -1, count), down.reshape(count, -1, down.shape[-1])
            change = torch.einsum("ore,eri->eoi" if of_experts.out_first else "ore,eri->eio", up, down)
        else:
            change = up @ down
        merged[target] = merged[target] + module.scaling[ADAPTER] * change
    return merged


def save_adapter(options: Lora, weights: dict[str, Tensor], base: str, output: Path) -> None:
    """Writes the adapter alone, in peft's layout.

    Args:
        options: options of the adapters.
        weights: gathered state of the model.
        base: checkpoint folder of the base model.
        output: output folder; created if missing.
    """
    output.mkdir(parents=True, exist_ok=True)
    family, _ = family_of_folder(base)
    config = _config(options, family)
    config.base_model_name_or_path = base
    config.save_pretrained(output)
    tensors = {
        f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}": value.contiguous()
        for name, value in weights.items()
        if ".lora_" in name
    }
    save_file(tensors, output / "adapter_model.safetensors", metadata={"format": "pt"})


def merge_adapter(
    folder: str,
    adapter: Path,
    output: Path,
    dtype: torch.dtype | None = None,
    template: str = "auto",
    system_message: str = "auto",
) -> int:
    """Merges an adapter in peft's layout into its model, in float32, and writes a checkpoint folder.

    Args:
        folder: checkpoint folder of the model.
        adapter: folder of the adapter.
        output: output folder; must not exist.
        dtype: dtype of the written weights; None keeps the model's.
        template: chat template to put on record; see `load_processor`.
        system_message: system message to put on record.

    Returns:
        Number of weight tensors changed.

    Raises:
        InputError: peft is not installed, or the adapter cannot be read, belongs to another model, or is of a kind
            that cannot be merged.
    """
    check_output(output)
    peft = from_peft("merging an adapter")
    stored = adapter / "adapter_model.safetensors"
    for path in (adapter / "adapter_config.json", stored):
        if not path.is_file():
            raise InputError(f"{adapter}: {path.name} is missing; give an adapter folder in peft's layout")
    _refuse_prompts(adapter, peft)
    processor, model = load_processor(folder, template, system_message), load_model(folder)
    before = _digests(model)
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    tied = {head.weight.data_ptr()} if head.weight is embeddings.weight else set()
    try:
        names = set(load_file(stored))
        wrapped = peft.PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            f"{adapter}: the adapter does not fit {folder} ({str(error).strip().splitlines()[0]})"
        ) from None
    expected = set(peft.get_peft_model_state_dict(wrapped))
    if names != expected:
        name = min(names ^ expected)
        raise InputError(
            f"{adapter}: the adapter {'has' if name in names else 'lacks'} {name}, so it was not made for {folder}"
        )
    _refuse_tied(adapter, wrapped, tied)
    try:
        merged = wrapped.merge_and_unload()
    except (NotImplementedError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(f"{adapter}: cannot be merged ({' '.join(str(error).split()):.200})") from None
    changed = sum(digest != before[name] for name, digest in _digests(merged).items())
    with whole_folder(output) as partial:
        save_folder(merged, processor, partial, dtype=dtype or stored_dtype(folder))
    return changed


def _refuse_prompts(adapter: Path, peft: Any) -> None:
    """Refuses adapters that add tokens to a prompt, which are no change of weights."""
    try:
        config = peft.PeftConfig.from_pretrained(str(adapter))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{adapter}: the adapter's config cannot be read ({error!s:.100})") from None
    if config.is_prompt_learning:
        raise InputError(
            f"{adapter}: an adapter of the kind {str(config.peft_type).rpartition('.')[2]} adds tokens to the prompt, "
            "so it cannot be merged into weights; merge LoRA and its kind"
        )


def _refuse_tied(adapter: Path, wrapped: Any, tied: set[int]) -> None:
    """Refuses an adapter of a weight that two modules share, since merging would change only one of them.

    Args:
        adapter: folder of the adapter.
        wrapped: model with the adapter.
        tied: places of the shared weights in memory.
    """
    for name, module in wrapped.named_modules():
        base = getattr(module, "base_layer", getattr(module, "original_module", None))
        if base is not None and any(parameter.data_ptr() in tied for parameter in base.parameters()):
            raise InputError(
                f"{adapter}: the adapter changes {name.removeprefix('base_model.model.')}, whose weight this model "
                "shares between its head and its embeddings; set tie_word_embeddings to false and store lm_head.weight "
                "too, then merge"
            )


def _digests(model: Any) -> dict[str, bytes]:
    """Returns a hash of each weight by its name."""
    return {
        name: hashlib.blake2b(value.detach().contiguous().view(torch.uint8).numpy(), digest_size=16).digest()
        for name, value in model.state_dict().items()
    }
