"""Loading a checkpoint folder of any family: config, weights, tokenizer, template.

A folder in another layout than transformers' is opened through its converted copy. No remote code is run and nothing is
downloaded. Weights must be complete: a missing or misshapen tensor is an error that names it, never random values.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from mpo_lightning.data.chat_template import PromptChoice
from mpo_lightning.errors import InputError
from mpo_lightning.models.family import Family, families, family_for
from mpo_lightning.models.processor import Processor
from mpo_lightning.models.tensor_files import dtype_of, stored_tensors


def family_of_folder(folder: str | Path) -> tuple[Family, str]:
    """Returns the family of a checkpoint folder and the `model_type` of its config.json.

    Raises:
        InputError: there is no folder or no config.json, or no known family has this model type.
    """
    path = Path(folder) / "config.json"
    if (Path(folder) / "adapter_config.json").is_file():
        what = "which would be loaded with the model" if path.is_file() else "but no model"
        raise InputError(
            f"{folder}: there is an adapter_config.json, {what}; put the adapter into a folder of its own and merge it "
            "into its model with 'mpo model merge'"
        )
    if not path.is_file():
        raise InputError(
            f"{folder}: no model here (config.json is missing); give a checkpoint folder, or make one with 'mpo "
            "model tiny'"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model_type = config.get("model_type")
        parts = [config, *(part for part in config.values() if isinstance(part, dict))]
        quantized = next(filter(None, (part.get("quantization_config") for part in parts)), None)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: the config cannot be read ({error})") from None
    if (family := family_for(model_type)) is None:
        known = [
            f"{one.name} models in {layout} ({name!r})" for one in families() for name, layout in one.layouts.items()
        ]
        raise InputError(f"{folder}: model_type is {model_type!r}; this package trains {' or '.join(known)}")
    if quantized:
        method = quantized.get("quant_method", "unknown") if isinstance(quantized, dict) else "unknown"
        raise InputError(
            f"{folder}: its weights are quantized ({method!s:.40}); train the model that it was made from, and "
            "quantize the result"
        )
    return family, model_type


def native_folder(folder: str | Path) -> Path:
    """Returns the folder in transformers' layout; another layout is converted once and cached.

    Raises:
        InputError: as `family_of_folder`.
    """
    return family_of_folder(folder)[0].native_folder(Path(folder))


def model_fingerprint(folder: str | Path) -> str:
    """Returns a fingerprint of a checkpoint folder's content, in either layout."""
    return family_of_folder(folder)[0].fingerprint(native_folder(folder))


def read_config(folder: str | Path) -> Any:
    """Returns the transformers config of a checkpoint folder.

    Raises:
        InputError: as `family_of_folder`, or the folder cannot be converted.
    """
    family, _ = family_of_folder(folder)
    return family.read_config(native_folder(folder))


def config_of(model: str) -> Any:
    """Returns the config of a checkpoint folder, without converting it, or of a released size such as "8b".

    Raises:
        InputError: `model` is neither a folder nor a size.
    """
    if Path(model).is_dir():
        family, model_type = family_of_folder(model)
        found = family.config_of(Path(model), model_type)
        return read_config(model) if found is None else found
    sizes = {name: config for family in families() for name, config in family.sizes.items()}
    if model.lower() not in sizes:
        raise InputError(f"unknown model size {model!r}; give a checkpoint folder or one of {', '.join(sizes)}")
    return sizes[model.lower()]()


def empty_model(folder: str | Path) -> Any:
    """Builds a checkpoint folder's model with its parameters on the meta device.

    Buffers, which are not in checkpoints, have real values.
    """
    config = read_config(folder)
    family = family_for(config.model_type)
    assert family is not None
    with torch.device("meta"):
        model = family.model_class(config)
    language_model = family.language_model(model)
    language_model.rotary_emb = type(language_model.rotary_emb)(config.get_text_config())
    assert not any(buffer.is_meta for buffer in model.buffers()), "only the rotary embedding has buffers"
    return model.eval()


def load_model(folder: str | Path, dtype: torch.dtype = torch.float32) -> Any:
    """Loads the model of a checkpoint folder in eval mode.

    Args:
        folder: checkpoint folder.
        dtype: dtype of the weights; training uses float32.

    Raises:
        InputError: as `read_config`, there are no weights, or they do not match the model exactly.
    """
    family, _ = family_of_folder(folder)
    config, folder = read_config(folder), native_folder(folder)
    if not any(Path(folder).glob("*.safetensors")):
        raise InputError(
            f"{folder}: the checkpoint folder has a config but no weights (*.safetensors); copy them there"
        )
    stored_tensors(folder)  # a tensor in two files is refused
    loaded: Any
    try:
        loaded = family.model_class.from_pretrained(
            str(folder),
            config=config,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            use_safetensors=True,
        )
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{folder}: the weights cannot be loaded ({str(error).strip().splitlines()[0]})") from None
    model, report = loaded
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(problem):
            names = sorted(map(str, report[problem]))
            raise InputError(
                f"{folder}: the weights do not fit the config: {problem.replace('_', ' ')} {names[0]} (and "
                f"{len(names) - 1} more)"
            )
    return model.eval()


def stored_dtype(folder: str | Path) -> torch.dtype:
    """Returns the dtype of most of a checkpoint folder's weights, from the headers of its files.

    Raises:
        InputError: as `read_config`, or the weights cannot be read.
    """
    return dtype_of(stored_tensors(native_folder(folder)).values())


def load_processor(
    folder: str | Path,
    template: str = "auto",
    system_message: str = "auto",
    trained_newline: bool | None = None,
) -> Processor:
    """Loads the tokenizer, chat template and image settings of a checkpoint folder.

    Args:
        folder: checkpoint folder.
        template: name of a chat template, or "auto" for the one that the folder's files say.
        system_message: "auto" for the one that the folder's files say; see `PromptChoice`.
        trained_newline: whether the newline behind an answer's end token is trained; None follows the family.

    Raises:
        InputError: as `read_config`, the tokenizer cannot be used, image tokens do not match, or the prompt is not
            certain.
    """
    family, _ = family_of_folder(folder)
    choice = PromptChoice(template, system_message, trained_newline)
    config, native = read_config(folder), native_folder(folder)
    try:
        return family.processor(native, config, family.tokenizer(native), choice)
    except InputError as error:
        # The folder that was given, not its converted copy.
        raise InputError(str(error).replace(str(native), str(folder))) from None


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a checkpoint folder in any layout, without converting it.

    Raises:
        InputError: as `family_of_folder`, or the tokenizer cannot be loaded.
    """
    return family_of_folder(folder)[0].tokenizer(Path(folder))
