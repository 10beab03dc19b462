"""`mpo predict`"""

from pathlib import Path
from typing import Literal

from mpo_lightning.errors import InputError


def predict(
    model: str,
    output: str,
    questions: str | None = None,
    shards: str | None = None,
    images: str | None = None,
    max_new_tokens: int = 1024,
    max_tiles: int = 12,
    max_length: int = 8192,
    template: str = "auto",
    batch_size: int = 8,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    accelerator: str = "auto",
    devices: str = "auto",
    num_nodes: int = 1,
    num_workers: int = 2,
) -> None:
    """A model's greedy answer to every prompt, with its own fields repeated, one JSON line a prompt in the order of the
    prompts.

    A prompt that cannot be used gets a line with the reason (exit code 3). Started again after a kill, it goes on where
    it was, on any number of devices; OUTPUT appears when all is answered.

    Args:
        model: checkpoint folder, in either layout.
        output: the file to write.
        questions: a file with a JSON object a line: question, image (a path, a list of paths, or absent), and whatever
            else.
        shards: a shard folder, whose questions are asked; instead of questions.
        images: the folder that picture paths are relative to; default that of the questions file.
        max_new_tokens: most tokens of an answer.
        max_tiles: most tiles of a prompt's pictures, thumbnails not counted.
        max_length: a prompt of so many tokens is refused.
        template: chat template; auto takes the one that the checkpoint names.
        batch_size: prompts that a device answers at once.
        dtype: of weights and arithmetic; auto takes bfloat16 on a GPU and float32 on a CPU.
        accelerator: as in Lightning's Trainer.
        devices: as in Lightning's Trainer.
        num_nodes: machines; start the same command on each with torchrun or srun.
        num_workers: loader processes a device.
    """
    from mpo_lightning.data.prompts import Prompts, QuestionFile, ShardQuestions
    from mpo_lightning.data.shards.join import open_shards
    from mpo_lightning.data.shards.reference_cache import tokenizer_fingerprint
    from mpo_lightning.files.digests import file_digest
    from mpo_lightning.inference.predict import PredictOptions, run_predict
    from mpo_lightning.models.loading import load_processor, model_fingerprint

    if (questions is None) == (shards is None):
        raise InputError("give either --questions FILE or --shards FOLDER")
    if min(max_new_tokens, max_tiles, max_length, batch_size, num_nodes) < 1 or num_workers < 0:
        raise InputError(
            "--max_new_tokens, --max_tiles, --max_length, --batch_size and --num_nodes must be at least 1, and "
            "--num_workers at least 0"
        )
    prompts: Prompts
    if questions is not None:
        prompts = QuestionFile(Path(questions), Path(images) if images else None)
        asked = file_digest(Path(questions))
    else:
        prompts = ShardQuestions(open_shards(str(shards)))
        asked = prompts.reader.index.fingerprint
    processor = load_processor(model, template)
    settings = {
        "prompts": asked,
        "model": model_fingerprint(model),
        "tokenizer": tokenizer_fingerprint(processor.tokenizer),
        "images": images,
        "template": processor.template.name,
        "max_tiles": max_tiles,
        "max_length": max_length,
    }
    options = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes}
    encoder = processor.encoder(max_tiles, max_length, "set_aside")
    count, refused = run_predict(
        model,
        processor,
        prompts,
        Path(output),
        settings,
        encoder,
        options,
        PredictOptions(max_new_tokens, batch_size, num_workers, dtype),
    )
    if count:
        print(f"{output}: {count:,} answers" + (f", {refused:,} of them a reason why there is none" if refused else ""))
    if refused:
        raise SystemExit(3)
