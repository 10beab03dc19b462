"""`mpo predict`: writes a model's responses to prompts."""

from pathlib import Path

from mpo_lightning.errors import InputError
from mpo_lightning.inference.options import EngineOptions, TrainerOptions


def predict(
    model: str,
    output: str,
    questions: str | None = None,
    shards: str | None = None,
    images: str | None = None,
    max_new_tokens: int = 1024,
    engine: EngineOptions = EngineOptions(batch_size=8),  # noqa: B008 (frozen)
    trainer: TrainerOptions = TrainerOptions(),  # noqa: B008
) -> None:
    """Writes a model's greedy response to every prompt, with the prompt's own fields, one JSON line a prompt in order.

    A prompt that cannot be used gets a line with the reason (exit code 3). Started again after a kill it resumes, on
    any number of devices; OUTPUT appears when all prompts are answered, and OUTPUT.meta.json says with which model,
    prompt format and limits.

    Args:
        model: checkpoint folder in either layout, or the model's name on a server.
        output: the file to write.
        questions: a file with a JSON object a line: question, image (a path, a list of paths, or absent), and other
            fields.
        shards: a shard folder whose questions are asked; instead of questions.
        images: folder that image paths are relative to; default that of the questions file.
        max_new_tokens: most tokens of a response.
        engine: the engine that writes responses.
        trainer: devices of the embedded engine.
    """
    from mpo_lightning.commands.display.progress import engine_with_bar
    from mpo_lightning.data.prompts import Prompts, QuestionFile, ShardQuestions
    from mpo_lightning.data.shards.join import open_shards
    from mpo_lightning.files.digests import file_digest
    from mpo_lightning.files.whole import write_json
    from mpo_lightning.inference.engine import Work, open_engine
    from mpo_lightning.inference.predict import answer_here, described

    if (questions is None) == (shards is None):
        raise InputError("give either --questions FILE or --shards FOLDER")
    if max_new_tokens < 1:
        raise InputError(f"--max_new_tokens must be at least 1, got {max_new_tokens}")
    prompts: Prompts
    if questions is not None:
        prompts = QuestionFile(Path(questions), Path(images) if images else None)
        asked = file_digest(Path(questions))
    else:
        prompts = ShardQuestions(open_shards(str(shards)))
        asked = prompts.reader.index.fingerprint
    work = Work(prompts, asked, max_new_tokens)
    if engine.kind == "embedded":
        settings = {"images": images}
        count, refused = answer_here(model, work, Path(output), settings=settings, engine=engine, trainer=trainer)
    else:
        opened = engine_with_bar(open_engine(model, engine, trainer))
        count, refused = opened.answer(work, Path(output))
    if count:
        made_with = described(model, engine) if engine.kind == "embedded" else opened.description()
        asked_for = {"prompts": asked, "max_new_tokens": max_new_tokens}
        write_json(Path(f"{output}.meta.json"), {"checkpoint": model, **made_with, **asked_for})
        print(
            f"{output}: {count:,} responses" + (f"; {refused:,} could not be answered, see `error`" if refused else "")
        )
    if refused:
        raise SystemExit(3)
